"""What must wait for its time, and what has missed it. Pure.

Bytes move only while the download window is open. Nothing is installed, probed or activated but
within the activate window; what goes through these without a pause is not cut when it closes, and
what must begin one of them again (after a restart, or another attempt) waits for the next. A soak,
a commit and rolling back are never held: what answers is decided by then, or was answering before.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from sprat_proto import windows
from sprat_proto.assignment import AssignedModel, Windows
from sprat_proto.states import ExecutionState, ReasonCode, Step
from sprat_proto.windows import Window, WindowError, WindowSpec

from sprat_agent.sync.freshness import Time
from sprat_agent.sync.phases import Phase
from sprat_agent.sync.plan import Execution, Hold, Over, Reason

_DOWNLOAD: Final = frozenset[Phase]({ExecutionState.QUEUED, Step.DOWNLOADING})
_END: Final = 253_402_300_799  # of the year 9999, the last that a datetime can say
# What may be begun anew, and is in the activate window only.
ACTIVATE: Final = frozenset[Phase]({Step.INSTALLING, Step.PROBING, Step.ACTIVATING})
# Until here an execution may miss its deadline.
_BEFORE: Final = frozenset[Phase](
    {
        *_DOWNLOAD,
        Step.DOWNLOADED,
        Step.VERIFYING,
        Step.WAITING_WINDOW,
        Step.INSTALLING,
    }
)


def judge(
    execution: Execution, time: Time, *, was_proved: bool, is_through: bool
) -> Hold | Over | None:
    """Return why an execution may not go on in its phase now, or None.

    Args:
        execution: It has not ended.
        time: Windows are closed while it is not known.
        was_proved: This very digest was committed here before.
        is_through: It was let into the activate window and has not paused since.
    """
    wanted, phase = execution.wanted, execution.phase
    times = wanted.times
    if times.override or (times.is_way_back and was_proved) or is_through:
        return None
    if phase in _BEFORE:
        if times.deadline and time.reached >= _moment(times.deadline):
            return Over(_too_late(wanted, times.deadline))
        if time.reached < _moment(times.not_before):
            begins = _moment(times.not_before)
            return Hold(
                begins if time.known else None,
                _waits(ReasonCode.WAITING_START, wanted, f"begins at {_said(begins)}", time),
            )
    spec = _window_of(times, phase)
    return None if spec is None else _by(spec, wanted, time)


def pauses_at(execution: Execution, time: Time) -> datetime | None:
    """Return when a download that goes on now is to be looked at again; None: never."""
    times = execution.wanted.times
    if times.override or execution.phase is not Step.DOWNLOADING:
        return None
    moments = [_moment(times.deadline)] if times.deadline else []
    if times.download and time.known:
        closes = windows.closes_at(_read(times.download), time.known)
        moments += [closes] if closes else []
    return min(moments, default=None)


def _by(spec: WindowSpec, wanted: AssignedModel, time: Time) -> Hold | Over | None:
    try:
        window = _read(spec)
    except WindowError as error:
        return Over(_unreadable(wanted, str(error)))
    if time.known is None:
        waits = _waits(ReasonCode.WAITING_WINDOW, wanted, f"opens by {spec.cron!r}", time)
        return Hold(None, waits)
    if windows.is_open(window, time.known):
        return None
    opens = windows.next_open(window, time.known)
    if opens is None:
        return Over(_unreadable(wanted, f"expected a window that opens, found {spec.cron!r}"))
    said = f"opens at {_said(opens)} ({spec.cron!r}, {spec.zone})"
    return Hold(opens, _waits(ReasonCode.WAITING_WINDOW, wanted, said, time))


def _window_of(times: Windows, phase: Phase) -> WindowSpec | None:
    if phase in _DOWNLOAD:
        return times.download
    return times.activate if phase in ACTIVATE or phase is Step.WAITING_WINDOW else None


@lru_cache(maxsize=64)  # looked at before every phase
def _read(spec: WindowSpec) -> Window:
    return windows.parse(spec)


def _waits(code: ReasonCode, wanted: AssignedModel, what: str, time: Time) -> Reason:
    unknown = "" if time.known else ", and this device does not know what time it is: give it NTP"
    return Reason(code, f"{wanted.name} waits for its time, which {what}{unknown}")


def _too_late(wanted: AssignedModel, deadline: int) -> Reason:
    return Reason(
        ReasonCode.DEADLINE_PASSED,
        f"{wanted.name} was to be installed before {_said(_moment(deadline))}, and was not",
    )


def _unreadable(wanted: AssignedModel, found: str) -> Reason:
    return Reason(ReasonCode.WINDOW_INVALID, f"{wanted.name} has a window that is none: {found}")


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(min(seconds, _END), UTC)


def _said(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
