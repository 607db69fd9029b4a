"""What time may be believed, and what has grown too old for it. Pure.

An expired plan stops nothing that runs; it only lets nothing new begin. What is to end with its
time says so itself (`run_until`). Windows need more than a time that was reached: they need to know
what time it is, and while it is not known they are closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

# A clock may be this far behind what was signed by another one.
TOLERANCE: Final = timedelta(minutes=2)


@dataclass(frozen=True)
class Time:
    """What time it is, as far as it can be told."""

    reached: datetime  # it is this late, or later
    known: datetime | None  # None: no clock can be believed


class Timekeeper:
    """Tells the time while the clock is kept right, and for as long as the device runs after that.

    A device that cannot ask for the time any more goes on from when it could, by what counts the
    seconds since it started; those are off by some seconds a day. A restart has it ask again.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        is_synchronised: Callable[[], bool],
        uptime: Callable[[], float],
    ) -> None:
        """Tell the time by these; `uptime` counts seconds and never stops or jumps."""
        self._clock = clock
        self._is_synchronised = is_synchronised
        self._uptime = uptime
        self._seen: tuple[datetime, float] | None = None

    def now(self) -> datetime | None:
        """Return what time it is; None: it was never known since the start."""
        uptime = self._uptime()
        if self._is_synchronised():
            self._seen = self._clock(), uptime
        if self._seen is None:
            return None
        at, then = self._seen
        return at + timedelta(seconds=uptime - then)


def time_by(now: datetime | None, proven: datetime) -> Time:
    """Return the time, by a clock and by what was signed.

    Args:
        now: What `Timekeeper` says.
        proven: `reference_time`. A clock that is behind it is wrong, and not believed.
    """
    if now is None or now < proven - TOLERANCE:
        return Time(proven, None)
    return Time(max(now, proven), now)


def reference_time(
    clock: datetime, floor: datetime | None, built_at: datetime, *, is_synchronised: bool
) -> datetime:
    """Return the time by which expiry is judged: the latest one that can be believed.

    Args:
        clock: What the system clock says.
        floor: When the newest plan that was accepted was signed; None before the first.
        built_at: When this agent was made.
        is_synchronised: The kernel says that something keeps its clock right. If not, it may be
            in 1970 or 2099.
    """
    proven = max(floor, built_at) if floor else built_at
    return max(clock, proven) if is_synchronised else proven


def is_stale(expires: datetime | None, now: datetime) -> bool:
    """Tell whether the plan has expired; `expires` is None before the first plan."""
    return expires is not None and now >= expires


def has_ended(run_until: int, now: datetime) -> bool:
    """Tell whether a model is to run no longer; 0 is for ever."""
    return run_until != 0 and now >= datetime.fromtimestamp(run_until, UTC)
