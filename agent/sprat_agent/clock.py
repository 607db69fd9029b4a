"""The one place that reads the wall clock; everything else takes `now` or a `Clock`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]


def system_clock() -> datetime:
    """Return the time now, timezone-aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the place the rule names


def to_ms(moment: datetime) -> int:
    """Return Unix milliseconds, as they stand in messages."""
    return int(moment.timestamp() * 1000)


def from_ms(milliseconds: int) -> datetime:
    """Return the moment of Unix milliseconds."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
