"""Server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

MEDIA_TYPE: Final = "text/event-stream; charset=utf-8"


def event(body: dict[str, Any], name: str = "") -> bytes:
    """Return one event: its JSON, under a name where the dialect names its events."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + msgspec.json.encode(body) + b"\n\n"
