"""The states of rollouts and executions: all transitions, in two tables. Pure.

A row stands here only when the code that makes it happen does: ROLLING_BACK and ROLLED_BACK (of a
rollout) have none yet. Nothing but `apply` says what follows what; each UPDATE names the state that
it starts from.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

from sprat_proto.states import ExecutionState, RolloutState

from sprat_controller.errors import ConflictError

StateT = TypeVar("StateT", bound=StrEnum)
EventT = TypeVar("EventT", bound=StrEnum)
Table: TypeAlias = Mapping[StateT, Mapping[EventT, StateT]]


class RolloutEvent(StrEnum):
    """What happens to a rollout."""

    PLANNED = "planned"  # every device has an execution
    EDIT = "edit"
    SUBMIT = "submit"  # it needs approvals; what was approved before counts no more
    APPROVE = "approve"  # enough have
    DENY = "deny"
    SCHEDULE = "schedule"  # it has a time to start at
    START = "start"  # a person said so, or its time came
    STARTED = "started"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"  # every execution is final
    STOP = "stop"
    STOPPED = "stopped"  # what was unfinished is cancelled


class ExecutionEvent(StrEnum):
    """What happens to one device's run."""

    SKIP = "skip"  # the device runs the variant already
    ASSIGN = "assign"
    REPLAN = "replan"  # the device refused the variant: another one is chosen
    PROGRESS = "progress"
    SUCCEED = "succeed"
    FAIL = "fail"
    ROLL_BACK = "roll_back"
    REJECT = "reject"
    TIME_OUT = "time_out"
    CANCEL = "cancel"
    REMOVE = "remove"  # the device was removed from the fleet


ROLLOUT: Final[Table[RolloutState, RolloutEvent]] = {
    RolloutState.CREATING: {RolloutEvent.PLANNED: RolloutState.READY},
    RolloutState.WAITING_FOR_APPROVAL: {
        RolloutEvent.EDIT: RolloutState.WAITING_FOR_APPROVAL,
        RolloutEvent.SUBMIT: RolloutState.WAITING_FOR_APPROVAL,
        RolloutEvent.APPROVE: RolloutState.READY,
        RolloutEvent.DENY: RolloutState.APPROVAL_DENIED,
        RolloutEvent.STOP: RolloutState.STOPPING,
    },
    RolloutState.READY: {
        RolloutEvent.EDIT: RolloutState.READY,
        RolloutEvent.SUBMIT: RolloutState.WAITING_FOR_APPROVAL,
        RolloutEvent.SCHEDULE: RolloutState.SCHEDULED,
        RolloutEvent.START: RolloutState.STARTING,
        RolloutEvent.STOP: RolloutState.STOPPING,
    },
    RolloutState.SCHEDULED: {
        RolloutEvent.EDIT: RolloutState.SCHEDULED,
        RolloutEvent.SUBMIT: RolloutState.WAITING_FOR_APPROVAL,
        RolloutEvent.START: RolloutState.STARTING,
        RolloutEvent.STOP: RolloutState.STOPPING,
    },
    RolloutState.STARTING: {
        RolloutEvent.STARTED: RolloutState.RUNNING,
        RolloutEvent.PAUSE: RolloutState.PAUSED,
        RolloutEvent.STOP: RolloutState.STOPPING,
    },
    RolloutState.RUNNING: {
        RolloutEvent.PAUSE: RolloutState.PAUSED,
        RolloutEvent.FINISH: RolloutState.FINISHED,
        RolloutEvent.STOP: RolloutState.STOPPING,
    },
    # A paused rollout whose executions are all final still waits for the person who paused it.
    RolloutState.PAUSED: {
        RolloutEvent.RESUME: RolloutState.RUNNING,
        RolloutEvent.STOP: RolloutState.STOPPING,
    },
    RolloutState.STOPPING: {RolloutEvent.STOPPED: RolloutState.STOPPED},
    RolloutState.FINISHED: {},
    RolloutState.STOPPED: {},
    RolloutState.APPROVAL_DENIED: {},
}

EXECUTION: Final[Table[ExecutionState, ExecutionEvent]] = {
    ExecutionState.QUEUED: {
        ExecutionEvent.SKIP: ExecutionState.SUCCEEDED,
        ExecutionEvent.REJECT: ExecutionState.REJECTED,
        ExecutionEvent.ASSIGN: ExecutionState.IN_PROGRESS,
        ExecutionEvent.CANCEL: ExecutionState.CANCELED,
        ExecutionEvent.REMOVE: ExecutionState.REMOVED,
    },
    ExecutionState.IN_PROGRESS: {
        ExecutionEvent.PROGRESS: ExecutionState.IN_PROGRESS,
        ExecutionEvent.SUCCEED: ExecutionState.SUCCEEDED,
        ExecutionEvent.FAIL: ExecutionState.FAILED,
        ExecutionEvent.ROLL_BACK: ExecutionState.ROLLED_BACK,
        ExecutionEvent.REPLAN: ExecutionState.QUEUED,
        ExecutionEvent.REJECT: ExecutionState.REJECTED,
        ExecutionEvent.TIME_OUT: ExecutionState.TIMED_OUT,
        ExecutionEvent.CANCEL: ExecutionState.CANCELED,
        ExecutionEvent.REMOVE: ExecutionState.REMOVED,
    },
    ExecutionState.SUCCEEDED: {},
    ExecutionState.FAILED: {},
    ExecutionState.ROLLED_BACK: {},
    ExecutionState.REJECTED: {},
    ExecutionState.TIMED_OUT: {},
    ExecutionState.CANCELED: {},
    ExecutionState.REMOVED: {},
}


def apply(
    table: Table[StateT, EventT], state: StateT, event: EventT, subject: str, code: str
) -> StateT:
    """Return the state that follows.

    Args:
        table: ROLLOUT or EXECUTION.
        state: Where the thing is.
        event: What happens to it.
        subject: Which thing, for the sentence.
        code: The stable code of the error.

    Raises:
        ConflictError: The state does not allow it; the sentence says what it does allow.
    """
    possible = table.get(state, {})
    if event in possible:
        return possible[event]
    raise ConflictError(
        code,
        f"{subject} is {state}: expected one of {_words(allowing(table, event))} to {event} it;"
        f" now possible: {_words(possible)}",
        {"state": str(state), "event": str(event), "possible": [str(one) for one in possible]},
    )


def allowing(table: Table[StateT, EventT], event: EventT) -> tuple[StateT, ...]:
    """Return the states in which `event` may happen."""
    return tuple(state for state, row in table.items() if event in row)


def _words(names: Mapping[EventT, object] | tuple[StrEnum, ...]) -> str:
    return ", ".join(str(name) for name in names) or "nothing"
