"""The hash chain of a device's audit log, as it arrives. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

GENESIS: Final = "0" * 64


def chain(previous: str, body: bytes) -> str:
    """Return the hex hash of the record `body` that follows the record with hash `previous`."""
    return hashlib.sha256(bytes.fromhex(previous) + body).hexdigest()
