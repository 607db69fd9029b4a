"""The local inference API: OpenAI-compatible HTTP for the applications of this device."""
