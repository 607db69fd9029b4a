"""The path and shapes of Anthropic's messages."""
