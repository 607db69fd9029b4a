"""The one place that reads the wall clock; everything else takes `now` or a `Clock`."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeAlias

Clock: TypeAlias = Callable[[], datetime]

_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES: Final = 512  # above struct timex of every architecture; all zeros only reads


def system_clock() -> datetime:
    """Return the time now, timezone-aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the place the rule names


def kernel_is_synchronised() -> bool:
    """Tell whether the kernel says that something (NTP, PTP) keeps its clock right.

    Also in a container, which has no clock of its own; False where the kernel cannot be asked.
    """
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return False
    return 0 <= state < _TIME_ERROR


def uptime_ns() -> int:
    """Return nanoseconds since the machine started, also while it slept."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def to_ms(moment: datetime) -> int:
    """Return Unix milliseconds, as they stand in messages."""
    return int(moment.timestamp() * 1000)


def from_ms(milliseconds: int) -> datetime:
    """Return the moment of Unix milliseconds."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
