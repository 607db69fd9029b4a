"""When a name may not be tried any more for a while. Pure.

A name is counted whether anybody has it or not, so that being locked out tells nothing. Whoever
wants to keep somebody out by failing for them can: their sessions and tokens go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# 960 tries a day at most; NIST SP 800-63B-4 §3.2.2 allows 100 in a row without any pause.
LIMIT: Final = 10
WINDOW: Final = timedelta(minutes=15)
LOCKED_FOR: Final = timedelta(minutes=15)


@dataclass(frozen=True)
class Failures:
    """What failed under a name since somebody last signed in with it.

    Attributes:
        count: How many, none of them more than `WINDOW` after the one before.
        last_at: The last of them.
        locked_until: When the name may be tried again; None: now.
    """

    count: int
    last_at: datetime
    locked_until: datetime | None = None


def after_failure(kept: Failures | None, now: datetime) -> Failures:
    """Return what is to be kept after one more."""
    is_new = kept is None or now - kept.last_at > WINDOW
    count = 1 if is_new or kept is None else kept.count + 1
    if count < LIMIT:
        return Failures(count, now)
    # The next run of tries begins at nothing once this lock is over.
    return Failures(0, now, now + LOCKED_FOR)


def locked_until(kept: Failures | None, now: datetime) -> datetime | None:
    """Return until when a name is locked; None: it is not."""
    until = kept.locked_until if kept else None
    return until if until is not None and now < until else None
