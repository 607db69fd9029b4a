"""What a worker says, made fit for logs, audit and clients.

It may quote a model file, or be a process that one has taken over: no escape codes, no line breaks
that would begin a record of their own, and not more than anybody would read.
"""

from __future__ import annotations

from typing import Final

LONGEST: Final = 500  # characters of what was said


def line(text: str) -> str:
    """Return the text as one line that a terminal can show."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in shown)
