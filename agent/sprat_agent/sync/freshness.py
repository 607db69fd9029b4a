"""What time may be believed, and what has grown too old for it. Pure.

An expired plan stops nothing that runs; it only lets nothing new begin. What is to end with its
time says so itself (`run_until`).
"""

from __future__ import annotations

from datetime import UTC, datetime


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
