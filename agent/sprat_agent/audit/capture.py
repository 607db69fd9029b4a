"""What a record may have of what was said, where a policy says so.

A hash is an HMAC-SHA-256 under a key of this device: who reads the log cannot try out what a short
prompt may have been, and who has the device can prove what it was.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Protocol

import msgspec

from sprat_agent.audit.policy import Capture
from sprat_agent.runtime.wire import Piece, Prompt, Text, ToolCallPart

KEY_BYTES: Final = 32


class Taker(Protocol):
    """Takes a text, part by part."""

    def take(self, text: str) -> None:
        """Take the next part."""
        ...

    def said(self) -> dict[str, object]:
        """Return what a record has of it."""
        ...


class Hashed:
    """The hash of a text."""

    def __init__(self, key: bytes) -> None:
        self._hmac = hmac.new(key, digestmod=hashlib.sha256)
        self._bytes = 0

    def take(self, text: str) -> None:
        """Take the next part."""
        data = text.encode(errors="replace")
        self._hmac.update(data)
        self._bytes += len(data)

    def said(self) -> dict[str, object]:
        """Return the hash, and how many bytes it is of."""
        return {"hmac_sha256": self._hmac.hexdigest(), "bytes": self._bytes}


class Cut:
    """The beginning of a text."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept = bytearray()
        self._bytes = 0

    def take(self, text: str) -> None:
        """Take the next part."""
        data = text.encode(errors="replace")
        self._bytes += len(data)
        self._kept += data[: self._most - len(self._kept)]

    def said(self) -> dict[str, object]:
        """Return the text up to the bound, how long all of it is, and how much was cut off."""
        # Half a letter at the end is left out.
        text = self._kept.decode(errors="ignore")
        cut = self._bytes - len(text.encode())
        return {"text": text, "bytes": self._bytes, **({"cut_bytes": cut} if cut else {})}


class Captured:
    """One request and its answer."""

    def __init__(self, capture: Capture, key: bytes, prompt: str) -> None:
        self._capture = capture
        self._key = key
        self._prompt = self._taker()
        self._prompt.take(prompt)
        self._answer = self._taker()

    def hear(self, piece: Piece) -> None:
        """Take the next piece of the answer."""
        self._answer.take(piece.text)
        for part in piece.tool_calls:
            self._answer.take(_written(part))

    def detail(self) -> dict[str, object]:
        """Return what the record has of it."""
        return {
            "prompt": self._prompt.said(),
            "answer": self._answer.said(),
            "retention_days": self._capture.retention_days,
        }

    def _taker(self) -> Taker:
        one = self._capture
        return Hashed(self._key) if one.content == "hash" else Cut(one.most_bytes)


class Capturing:
    """Begins to take down what is said."""

    def __init__(self, capture: Capture, key: bytes) -> None:
        self._capture = capture
        self._key = key

    def of(self, *prompts: Prompt) -> Captured:
        """Begin with what a model is asked."""
        return Captured(self._capture, self._key, "\n".join(map(written, prompts)))


def written(prompt: Prompt) -> str:
    """Return a prompt as a text: a text itself, tokens and conversations as JSON."""
    return prompt.text if isinstance(prompt, Text) else msgspec.json.encode(prompt).decode()


def _written(part: ToolCallPart) -> str:
    """Return a bit of a call as a text: its name once, then its arguments as they come."""
    return f"\n{part.name} {part.arguments}" if part.name else part.arguments
