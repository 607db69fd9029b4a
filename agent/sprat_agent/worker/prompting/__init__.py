"""From messages and tools to the text that a model is given, and back from its tool calls."""
