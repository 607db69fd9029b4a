"""The clock that wakes whoever reads the rows. The only file that imports apscheduler.

What is due is in the rows; nothing is kept here. A tick that is missed, merged with another or
skipped because the last one still runs loses nothing: the next one reads the same rows.
"""

# apscheduler 3 has no type hints.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, cast

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from sprat_controller.clock import system_clock

INTERVAL_S: Final = 1.0
# Thousands of devices report at once: looking this often, not after each report, is enough.
MIN_PAUSE_S: Final = 0.1
_JOB: Final = "tick"
# Its only warning in our use: a tick fell into a run that was still going.
logging.getLogger("apscheduler").setLevel(logging.ERROR)
_log = logging.getLogger(__name__)
T = TypeVar("T")


def each(*calls: Callable[[], T]) -> list[T]:
    """Make calls one after the other, and return what those gave that did not fail.

    One that fails is logged whole: what it is about must not hold up what others are about.
    """
    given: list[T] = []
    for call in calls:
        try:
            given.append(call())
        except Exception:  # noqa: BLE001 - see above; the next tick makes the call again
            _log.exception("a part of the controller's work failed, and is tried again")
    return given


class Clockwork:
    """Calls a function every second and soon after `wake`, in a thread, never twice at a time."""

    def __init__(
        self,
        call: Callable[[], None],
        *,
        interval_s: float = INTERVAL_S,
        min_pause_s: float = MIN_PAUSE_S,
    ) -> None:
        """Prepare to call `call`; an exception of it stands in the log and the clock goes on."""
        self._call = call
        self._min_pause = timedelta(seconds=min_pause_s)
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._ended_at: datetime | None = None
        self._is_calling = False
        self._is_woken = False
        self._is_stopped = False
        self._scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(1)},
            timezone="UTC",
        )

    def start(self) -> None:
        """Start; the first call is made at once, for what became due in the meantime."""
        self._scheduler.add_job(
            self._tick,
            "interval",
            seconds=self._interval_s,
            id=_JOB,
            next_run_time=system_clock(),
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )
        self._scheduler.start()

    def stop(self) -> None:
        """Stop, after the call that is being made, if any; for good."""
        with self._lock:
            # The scheduler holds a lock while it waits for the call: whoever asked it for a job at
            # the call's end would wait for that lock, and both for ever.
            self._is_stopped = True
        self._scheduler.shutdown(wait=True)

    def wake(self) -> None:
        """Have the call made soon: at once, after the running one, or after the shortest pause.

        Thread-safe; returns at once. Nothing happens before `start` and after `stop`.
        """
        with self._lock:
            self._is_woken = True
            if not self._is_calling:
                self._bring_forward()

    def wake_at(self, moment: datetime) -> None:
        """Have the call made at `moment`, if none is to be made before.

        Thread-safe; returns at once. Nothing happens before `start` and after `stop`.
        """
        with self._lock:
            self._bring_forward(moment)

    def _tick(self) -> None:
        with self._lock:
            if self._is_pause():
                # Woken after this call was due and before it began: it would follow the other.
                self._bring_forward()
                return
            self._is_calling, self._is_woken = True, False
        try:
            self._call()
        finally:
            with self._lock:
                self._is_calling, self._ended_at = False, system_clock()
                if self._is_woken:
                    self._bring_forward()

    def _is_pause(self) -> bool:
        """Tell whether a call ended just now; not where the clock was set back since."""
        ended = self._ended_at
        return ended is not None and timedelta() <= system_clock() - ended < self._min_pause

    def _bring_forward(self, moment: datetime | None = None) -> None:
        if self._is_stopped:
            return
        now = system_clock()
        at = now if moment is None else max(now, moment)
        if self._ended_at is not None:
            at = max(at, self._ended_at + self._min_pause)
        with contextlib.suppress(JobLookupError):  # before `start`
            job = cast("Any", self._scheduler).get_job(_JOB)
            if moment is None or (job is not None and job.next_run_time > at):
                self._scheduler.modify_job(_JOB, next_run_time=at)
