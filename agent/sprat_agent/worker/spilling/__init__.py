"""Prefixes of prompts that outlive their sequences, and the process, in one file of a model."""
