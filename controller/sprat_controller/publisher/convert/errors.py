"""The one error of a conversion."""

from __future__ import annotations


class ConvertError(Exception):
    """The folder cannot be converted; the message is one sentence."""
