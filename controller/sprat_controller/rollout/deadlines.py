"""Until when an execution must have gone on, or ended: by the controller's clock. Pure.

- The whole of it has a deadline from when it was given out. Where the strategy has windows, waiting
  for one takes nothing of it: while a device waits it counts from the next opening, and after that
  anew from each step; of a download, only the time in which its window is open. Steps are few and
  each has an end, so the whole has one too.
- Each step has a deadline of its own, but for those in which a device rightly does nothing: waiting
  for a window, and soaking. While it downloads, each word of progress puts it off. What its window
  cut off (a download, or what is begun again after a restart) has its time anew from the next
  opening.
- The way back of a device has the deadline of the whole only: it is done when the device is there.
- A device that is away is told of no step: only the whole counts, and in a CONTINUOUS rollout not
  even that, for it is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from sprat_proto import windows
from sprat_proto.states import ReasonCode, Step
from sprat_proto.windows import WindowSpec

from sprat_controller.rollout import timing
from sprat_controller.rollout.strategy import Deadlines, Membership, Strategy

# The limit of each step; of the others only the whole counts.
_LIMITS: Final[Mapping[Step, str]] = {
    Step.DOWNLOADING: "no_progress_s",
    Step.DOWNLOADED: "install_s",
    Step.VERIFYING: "install_s",
    Step.INSTALLING: "install_s",
    Step.PROBING: "probe_s",
    Step.ACTIVATING: "install_s",
    Step.COMMITTING: "install_s",
    Step.ROLLING_BACK: "install_s",
}


# Which window has to be open for what a device does in a step.
_WINDOWS: Final[Mapping[Step, str]] = {
    Step.DOWNLOADING: "download",
    Step.INSTALLING: "activate",
    Step.PROBING: "activate",
    Step.ACTIVATING: "activate",
}
# So many openings of a download window are looked at; what is missing after them is counted on.
_MAX_OPENINGS: Final = 64


@dataclass(frozen=True)
class Standing:
    """How far an execution that is IN_PROGRESS is.

    Attributes:
        started_at: When it was given out; see `returned`.
        step: What the device said last that it does; None: it has said nothing yet.
        step_since: When it first said so; None as `step` is.
        told_at: When it last said so; None as `step` is.
        is_reverting: It is on its way back.
    """

    started_at: datetime
    step: Step | None = None
    step_since: datetime | None = None
    told_at: datetime | None = None
    is_reverting: bool = False


@dataclass(frozen=True)
class Deadline:
    """When an execution is overdue, and what it then has missed.

    Attributes:
        at: When.
        code: NO_PROGRESS of a step, which may be tried again; DEADLINE_PASSED of the whole.
    """

    at: datetime
    code: ReasonCode


def due(strategy: Strategy, standing: Standing) -> Deadline:
    """Return the earliest deadline of an execution that is IN_PROGRESS and not excused."""
    whole = Deadline(_whole(strategy, standing), ReasonCode.DEADLINE_PASSED)
    limit = 0 if standing.is_reverting else _limit(strategy.deadlines, standing.step)
    if not limit or standing.told_at is None or standing.step_since is None:
        return whole
    is_fetching = standing.step is Step.DOWNLOADING
    since = standing.told_at if is_fetching else standing.step_since
    window = _window_of(strategy, standing.step)
    if window is not None:
        since = _going_on_from(window, since, limit)
    of_step = Deadline(since + timedelta(seconds=limit), ReasonCode.NO_PROGRESS)
    return min(of_step, whole, key=lambda deadline: deadline.at)


def returned(strategy: Strategy, standing: Standing, now: datetime) -> Standing:
    """Return how an execution stands whose device is back after it counted no more.

    What it did not tell of while it was away it may still tell: its step begins anew. In a
    CONTINUOUS rollout, which waits for it however long that takes, the whole does too.
    """
    is_waited_for = strategy.membership is Membership.CONTINUOUS
    began = replace(standing, started_at=now) if is_waited_for else standing
    return began if began.step is None else replace(began, step_since=now, told_at=now)


def excused_until(
    strategy: Strategy, excused_at: datetime, standing: Standing | None
) -> datetime | None:
    """Return when an execution ends because its device is away for too long; None: never.

    It then ends as TIMED_OUT with code OFFLINE.

    Args:
        strategy: The rollout's.
        excused_at: Since when it counts no more.
        standing: None while it is QUEUED.
    """
    if strategy.membership is Membership.CONTINUOUS:
        return None
    if standing is None:
        return excused_at + _execution(strategy)
    return _whole(strategy, standing)


def _whole(strategy: Strategy, standing: Standing) -> datetime:
    since = standing.started_at
    told = timing.windows_of(strategy)
    asked = [one for one in (told.download, told.activate) if one is not None]
    if asked and not told.override and not standing.is_reverting:
        opens = max(_open_from(one, since) for one in asked)
        since = opens if standing.step_since is None else standing.step_since
        if standing.step is Step.WAITING_WINDOW:
            since = max(_open_from(one, since) for one in asked)
        elif standing.step is Step.DOWNLOADING and told.download is not None:
            return _once_open_for(told.download, since, _execution(strategy))
    return since + _execution(strategy)


def _window_of(strategy: Strategy, step: Step | None) -> WindowSpec | None:
    name = None if step is None else _WINDOWS.get(step)
    return getattr(timing.windows_of(strategy), name) if name else None


def _going_on_from(spec: WindowSpec, since: datetime, limit: int) -> datetime:
    """Return from when what was last told of must go on, while its window lets it."""
    window = windows.parse(spec)
    closes = windows.closes_at(window, since)
    if closes is not None and since + timedelta(seconds=limit) <= closes:
        return since
    return windows.next_open(window, closes or since) or since


@lru_cache(maxsize=1 << 14)  # 6 ms for a day of one-hour nights, asked again at each progress
def _once_open_for(spec: WindowSpec, since: datetime, needed: timedelta) -> datetime:
    """Return when a window has been open for so long since then."""
    window = windows.parse(spec)
    at = since
    for _ in range(_MAX_OPENINGS):
        at = _open_from(spec, at)
        closes = windows.closes_at(window, at)
        if closes is None or at + needed <= closes:
            break
        needed -= closes - at
        at = closes
    return at + needed


def _open_from(spec: WindowSpec, at: datetime) -> datetime:
    """Return `at` if the window is open then, else when it opens next."""
    window = windows.parse(spec)
    if windows.is_open(window, at):
        return at
    # One that never opens is refused when it is asked for; what changed since waits for nothing.
    return windows.next_open(window, at) or at


def _execution(strategy: Strategy) -> timedelta:
    return timedelta(seconds=strategy.deadlines.execution_s)


def _limit(deadlines: Deadlines, step: Step | None) -> int:
    name = None if step is None else _LIMITS.get(step)
    return getattr(deadlines, name) if name else 0
