"""Randomness, in one place: ids that sort by their time, and secrets."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from typing import Final

from sprat_controller.clock import Clock, to_ms

SECRET_BYTES: Final = 32
_TIME_BITS: Final = 48


def time_ordered(clock: Clock) -> Callable[[], str]:
    """Return a maker of UUIDs of version 7 (RFC 9562): 48 bits of milliseconds, then randomness."""

    def new_id() -> str:
        milliseconds = to_ms(clock()) & ((1 << _TIME_BITS) - 1)
        version_and_variant = (7 << 76) | (2 << 62)
        mask = ~((0xF << 76) | (0x3 << 62))
        low = secrets.randbits(128 - _TIME_BITS) & mask | version_and_variant
        return str(uuid.UUID(int=milliseconds << (128 - _TIME_BITS) | low))

    return new_id


def new_secret() -> str:
    """Return 256 random bits in base64url without padding: 43 characters."""
    return secrets.token_urlsafe(SECRET_BYTES)
