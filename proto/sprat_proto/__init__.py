"""The contract between Sprat's agent and controller: what must be equal on both sides, no more."""

__version__ = "0.1.0"
