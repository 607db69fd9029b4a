"""How often strangers may knock: token buckets, one for each source and one for all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_controller.errors import TooManyRequestsError

MAX_SOURCES: Final = 4096


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a second in the long run."""

    burst: int
    per_s: float


@dataclass(frozen=True)
class Bucket:
    """What is left of a burst, and when that was."""

    left: float
    at: datetime


# A shelf of new devices behind one address enrols at once; guessing 256 bits gets nowhere anyway,
# the limit keeps the controller's processor for those it knows (1.3 ms a request).
PER_SOURCE: Final = Rate(burst=100, per_s=2.0)
OF_ALL: Final = Rate(burst=400, per_s=100.0)
# People sign in a few times a day; each try costs 64 MiB and a tenth of a second of a processor.
LOGIN_PER_SOURCE: Final = Rate(burst=20, per_s=0.2)
LOGIN_OF_ALL: Final = Rate(burst=40, per_s=4.0)


def take(bucket: Bucket | None, rate: Rate, now: datetime) -> tuple[Bucket, float]:
    """Take one token; return the bucket and the seconds until there is one (0: it was taken). Pure.

    Args:
        bucket: As it was left; None: nothing was ever taken.
        rate: How it fills.
        now: The caller's clock; if it goes back, nothing is gained and nothing lost.
    """
    if bucket is None:
        return Bucket(rate.burst - 1, now), 0.0
    gained = max(0.0, (now - bucket.at).total_seconds()) * rate.per_s
    left = min(float(rate.burst), bucket.left + gained)
    if left < 1:
        return Bucket(left, now), (1 - left) / rate.per_s
    return Bucket(left - 1, now), 0.0


class Gate:
    """Lets requests in at a rate; may be used by many threads."""

    def __init__(self, per_source: Rate = PER_SOURCE, of_all: Rate = OF_ALL) -> None:
        self._per_source = per_source
        self._of_all = of_all
        self._lock = threading.Lock()
        self._sources: OrderedDict[str, Bucket] = OrderedDict()
        self._all: Bucket | None = None

    def enter(self, source: str, now: datetime) -> None:
        """Let one request in.

        Raises:
            TooManyRequestsError: `too_many_requests`, with the seconds to wait.
        """
        with self._lock:
            # The source first: one that floods must not use up what is everybody's.
            mine, wait_s = take(self._sources.pop(source, None), self._per_source, now)
            self._sources[source] = mine
            if len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)
            if wait_s == 0:
                self._all, wait_s = take(self._all, self._of_all, now)
        if wait_s > 0:
            seconds = int(wait_s) + 1
            raise TooManyRequestsError(
                "too_many_requests",
                f"too many requests of this kind from {source} or from all: try again in"
                f" {seconds} s",
                {"retry_after_s": seconds},
            )


@dataclass(frozen=True)
class Gates:
    """What strangers may knock at; a flood at one does not close the other."""

    enrolment: Gate
    renewal: Gate
    login: Gate
