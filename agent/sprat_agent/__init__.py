"""Sprat's device agent: keeps a signed model registry and answers inference, online or not."""

__version__ = "0.1.0"
