"""The states of rollouts, groups and executions: all transitions, in three tables. Pure.

Nothing but `apply` says what follows what; each UPDATE names the state that it starts from.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

from sprat_proto.states import ExecutionState, GroupState, RolloutState

from sprat_controller.errors import ConflictError

StateT = TypeVar("StateT", bound=StrEnum)
EventT = TypeVar("EventT", bound=StrEnum)
Table: TypeAlias = Mapping[StateT, Mapping[EventT, StateT]]


class RolloutEvent(StrEnum):
    """What happens to a rollout; what people ask for is named as `sprat rollout` and the API do."""

    PLANNED = "planned"  # every device has an execution
    EDIT = "edit"
    SUBMIT = "submit"  # it needs approvals; what was approved before counts no more
    APPROVE = "approve"  # enough have
    DENY = "deny"
    SCHEDULE = "schedule"  # it has a time to start at
    START = "start"  # a person said so, or its time came
    HOLD_BACK = "hold-back"  # its time came, and who asked for it may not by now
    STARTED = "started"
    PAUSE = "pause"  # by a person, an abort criterion or a gate
    RESUME = "resume"
    FINISH = "finish"  # every execution is final
    STOP = "stop"  # by a person or an abort criterion
    STOPPED = "stopped"  # what was unfinished is cancelled
    ROLL_BACK = "roll-back"  # by a person or an abort criterion
    ROLLED_BACK = "rolled_back"  # what had succeeded is back
    RETRY = "retry-failed"  # a person has what failed tried again


# What no person can ask for by itself.
BY_ITSELF: Final = frozenset(
    {
        *(RolloutEvent.PLANNED, RolloutEvent.SUBMIT, RolloutEvent.SCHEDULE, RolloutEvent.STARTED),
        *(RolloutEvent.FINISH, RolloutEvent.STOPPED, RolloutEvent.ROLLED_BACK),
        RolloutEvent.HOLD_BACK,
    }
)


class GroupEvent(StrEnum):
    """What happens to a group."""

    PLANNED = "planned"  # each of its devices has an execution
    START = "start"  # the group before it is through
    SOAK = "soak"  # enough succeeded: it is watched
    FINISH = "finish"  # it proved itself, or a person promoted it
    ABORT = "abort"  # an abort criterion that acts on the group
    ROLLED_BACK = "rolled_back"  # what had succeeded in it is back


class ExecutionEvent(StrEnum):
    """What happens to one device's run."""

    SKIP = "skip"  # the device runs the variant already
    ASSIGN = "assign"
    REPLAN = "replan"  # the device refused the variant: another one is chosen
    PROGRESS = "progress"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"  # it may pass by itself, and attempts are left; or a person says so
    ROLL_BACK = "roll_back"  # the device went back: by itself, or because it was told to
    REVERT = "revert"  # it is told to go back to what it ran before
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
        RolloutEvent.HOLD_BACK: RolloutState.READY,
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
        RolloutEvent.ROLL_BACK: RolloutState.ROLLING_BACK,
    },
    # A paused rollout whose executions are all final still waits for the person who paused it.
    RolloutState.PAUSED: {
        RolloutEvent.EDIT: RolloutState.PAUSED,  # of what has not started
        RolloutEvent.RESUME: RolloutState.RUNNING,
        RolloutEvent.STOP: RolloutState.STOPPING,
        RolloutEvent.ROLL_BACK: RolloutState.ROLLING_BACK,
    },
    RolloutState.STOPPING: {RolloutEvent.STOPPED: RolloutState.STOPPED},
    # Nothing goes on by itself from here; a person may have it go on.
    RolloutState.FINISHED: {
        RolloutEvent.RETRY: RolloutState.RUNNING,
        RolloutEvent.ROLL_BACK: RolloutState.ROLLING_BACK,
    },
    RolloutState.ROLLING_BACK: {RolloutEvent.ROLLED_BACK: RolloutState.ROLLED_BACK},
    RolloutState.STOPPED: {},
    RolloutState.ROLLED_BACK: {},
    RolloutState.APPROVAL_DENIED: {},
}

GROUP: Final[Table[GroupState, GroupEvent]] = {
    GroupState.CREATING: {GroupEvent.PLANNED: GroupState.SCHEDULED},
    GroupState.SCHEDULED: {GroupEvent.START: GroupState.RUNNING},
    GroupState.RUNNING: {
        GroupEvent.SOAK: GroupState.SOAKING,
        GroupEvent.FINISH: GroupState.FINISHED,
        GroupEvent.ABORT: GroupState.ERROR,
    },
    GroupState.SOAKING: {
        GroupEvent.FINISH: GroupState.FINISHED,
        GroupEvent.ABORT: GroupState.ERROR,
    },
    # What was promoted goes on, and may still fail.
    GroupState.FINISHED: {GroupEvent.ABORT: GroupState.ERROR},
    GroupState.ERROR: {GroupEvent.ROLLED_BACK: GroupState.ROLLED_BACK},
    GroupState.ROLLED_BACK: {},
}

EXECUTION: Final[Table[ExecutionState, ExecutionEvent]] = {
    ExecutionState.QUEUED: {
        ExecutionEvent.SKIP: ExecutionState.SUCCEEDED,
        ExecutionEvent.REJECT: ExecutionState.REJECTED,
        ExecutionEvent.ASSIGN: ExecutionState.IN_PROGRESS,
        ExecutionEvent.TIME_OUT: ExecutionState.TIMED_OUT,  # its device is away for too long
        ExecutionEvent.CANCEL: ExecutionState.CANCELED,
        ExecutionEvent.REMOVE: ExecutionState.REMOVED,
    },
    ExecutionState.IN_PROGRESS: {
        ExecutionEvent.PROGRESS: ExecutionState.IN_PROGRESS,
        ExecutionEvent.SUCCEED: ExecutionState.SUCCEEDED,
        ExecutionEvent.FAIL: ExecutionState.FAILED,
        ExecutionEvent.ROLL_BACK: ExecutionState.ROLLED_BACK,
        ExecutionEvent.REPLAN: ExecutionState.QUEUED,
        ExecutionEvent.RETRY: ExecutionState.QUEUED,
        ExecutionEvent.REJECT: ExecutionState.REJECTED,
        ExecutionEvent.TIME_OUT: ExecutionState.TIMED_OUT,
        ExecutionEvent.CANCEL: ExecutionState.CANCELED,
        ExecutionEvent.REMOVE: ExecutionState.REMOVED,
    },
    # What succeeded goes back only by a decided rollback, or where the device fell back by itself.
    ExecutionState.SUCCEEDED: {
        ExecutionEvent.REVERT: ExecutionState.IN_PROGRESS,
        ExecutionEvent.ROLL_BACK: ExecutionState.ROLLED_BACK,
    },
    # Of these only a person makes anything again.
    ExecutionState.FAILED: {ExecutionEvent.RETRY: ExecutionState.QUEUED},
    ExecutionState.ROLLED_BACK: {ExecutionEvent.RETRY: ExecutionState.QUEUED},
    ExecutionState.TIMED_OUT: {ExecutionEvent.RETRY: ExecutionState.QUEUED},
    ExecutionState.REJECTED: {},
    ExecutionState.CANCELED: {},
    ExecutionState.REMOVED: {},
}


def apply(
    table: Table[StateT, EventT], state: StateT, event: EventT, subject: str, code: str
) -> StateT:
    """Return the state that follows.

    Args:
        table: ROLLOUT, GROUP or EXECUTION.
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
    verbs = tuple(one for one in possible if not _is_by_itself(one))
    raise ConflictError(
        code,
        f"{subject} is {state}: expected one of {_words(allowing(table, event))} to {event} it;"
        f" now possible: {_words(verbs)}",
        {"state": str(state), "event": str(event), "possible": [str(one) for one in possible]},
    )


def allowing(table: Table[StateT, EventT], event: EventT) -> tuple[StateT, ...]:
    """Return the states in which `event` may happen."""
    return tuple(state for state, row in table.items() if event in row)


def _is_by_itself(event: StrEnum) -> bool:
    # Not by equality alone: members of other enums have the same text.
    return isinstance(event, RolloutEvent) and event in BY_ITSELF


def _words(names: tuple[StrEnum, ...]) -> str:
    return ", ".join(str(name) for name in names) or "nothing"
