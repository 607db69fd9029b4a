"""What a rollout does next: facts and `now` in, decisions out. Pure.

Rules, in this order:

- Executions of removed devices end first, then those past their deadline; both make room.
- Only a RUNNING rollout gives devices work, in order of position, never more than
  `max_in_progress` at a time (0: no limit). A PAUSED one starts none but still times out.
- What a device refused by its own facts is QUEUED again, with another variant (`replan`), and is
  given out like all others.
- A rollout whose approval was denied cancels what is unfinished.
- A RUNNING rollout without unfinished executions finishes; a STOPPING one cancels what is
  unfinished and is then STOPPED.

A decision holds at most `CHUNK` executions, so that carrying it out is one short transaction. The
same facts give the same decisions; a decision on old facts is harmless, because carrying it out
checks the states again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias, TypeVar

from sprat_proto.states import ExecutionState, RolloutState

CHUNK: Final = 100  # executions in one transaction: 0.1-0.3 s of signing and writing
# A rollout under way is looked at this often even if nothing seems due: removed devices are found.
RECHECK: Final = timedelta(seconds=60)


@dataclass(frozen=True)
class RolloutFacts:
    """What the planner knows of a rollout."""

    state: RolloutState
    start_at: datetime | None
    max_in_progress: int


@dataclass(frozen=True)
class ExecutionFacts:
    """What the planner knows of one unfinished execution."""

    id: str
    state: ExecutionState
    deadline_at: datetime | None
    device_removed: bool


@dataclass(frozen=True)
class StartRollout:
    """Its time has come: SCHEDULED to STARTING."""


@dataclass(frozen=True)
class RunRollout:
    """STARTING to RUNNING."""


@dataclass(frozen=True)
class Assign:
    """Give these devices their assignments."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class TimeOut:
    """These are past their deadline."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class Remove:
    """The devices of these were removed from the fleet."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class Cancel:
    """The rollout is being stopped: these end, and devices return to what they ran before."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class FinishRollout:
    """Every execution is final."""


@dataclass(frozen=True)
class StopRollout:
    """All that was unfinished is cancelled: STOPPING to STOPPED."""


Decision: TypeAlias = (
    StartRollout | RunRollout | Assign | TimeOut | Remove | Cancel | FinishRollout | StopRollout
)
DecisionT = TypeVar("DecisionT", bound=Decision)


def decide(
    rollout: RolloutFacts, unfinished: Sequence[ExecutionFacts], now: datetime
) -> list[Decision]:
    """Return what is to be done now, in order; nothing if the rollout waits.

    Args:
        rollout: The rollout.
        unfinished: Its QUEUED and IN_PROGRESS executions, all of them, in order of position.
        now: The caller's clock, timezone-aware.
    """
    match rollout.state:
        case RolloutState.SCHEDULED:
            is_due = rollout.start_at is not None and rollout.start_at <= now
            return [StartRollout()] if is_due else []
        case RolloutState.STARTING:
            return [RunRollout()]
        case RolloutState.RUNNING:
            return _run(rollout, unfinished, now) if unfinished else [FinishRollout()]
        case RolloutState.PAUSED:
            return _end_overdue(unfinished, now)
        case RolloutState.STOPPING | RolloutState.APPROVAL_DENIED:
            is_done = rollout.state is RolloutState.STOPPING and not unfinished
            return [StopRollout()] if is_done else _cancel(unfinished)
        case _:
            return []


def next_due(
    rollout: RolloutFacts, unfinished: Sequence[ExecutionFacts], now: datetime
) -> datetime | None:
    """Return when `decide` must be asked again if no report comes before; None if never."""
    if rollout.state is RolloutState.SCHEDULED:
        return rollout.start_at
    if rollout.state not in (RolloutState.RUNNING, RolloutState.PAUSED) or not unfinished:
        return None
    deadlines = [
        one.deadline_at
        for one in unfinished
        if one.deadline_at is not None and one.state is ExecutionState.IN_PROGRESS
    ]
    return min([*deadlines, now + RECHECK])


def _run(
    rollout: RolloutFacts, unfinished: Sequence[ExecutionFacts], now: datetime
) -> list[Decision]:
    staying = [one for one in unfinished if not (one.device_removed or _is_overdue(one, now))]
    queued = [one.id for one in staying if one.state is ExecutionState.QUEUED]
    room = len(queued)
    if rollout.max_in_progress:
        room = max(0, rollout.max_in_progress - (len(staying) - len(queued)))
    return [*_end_overdue(unfinished, now), *_chunks(Assign, queued[:room])]


def _end_overdue(unfinished: Sequence[ExecutionFacts], now: datetime) -> list[Decision]:
    removed = [one.id for one in unfinished if one.device_removed]
    overdue = [one.id for one in unfinished if not one.device_removed and _is_overdue(one, now)]
    return [*_chunks(Remove, removed), *_chunks(TimeOut, overdue)]


def _cancel(unfinished: Sequence[ExecutionFacts]) -> list[Decision]:
    removed = [one.id for one in unfinished if one.device_removed]
    rest = [one.id for one in unfinished if not one.device_removed]
    return [*_chunks(Remove, removed), *_chunks(Cancel, rest)]


def _is_overdue(one: ExecutionFacts, now: datetime) -> bool:
    started = one.state is ExecutionState.IN_PROGRESS
    return started and one.deadline_at is not None and one.deadline_at <= now


def _chunks(
    decision: Callable[[tuple[str, ...]], DecisionT], ids: Sequence[str]
) -> Iterable[DecisionT]:
    starts = range(0, len(ids), CHUNK)
    return (decision(tuple(ids[start : start + CHUNK])) for start in starts)
