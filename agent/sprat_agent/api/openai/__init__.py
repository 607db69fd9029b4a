"""The OpenAI dialect of the local API."""
