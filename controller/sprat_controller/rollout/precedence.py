"""Which of two rollouts has the same alias of a device. Pure.

The one of higher priority goes first; of equals the newer takes what the other has not finished. A
newer one that only waits for its turn takes nothing yet, and nothing is taken from it: its turn
comes after.
"""

from __future__ import annotations

from enum import Enum

from sprat_proto.states import ExecutionState


class Ends(Enum):
    """Which of two executions ends as SUPERSEDED."""

    MINE = "mine"
    OTHER = "other"
    NEITHER = "neither"


def settle(priority: int, other_priority: int, state: ExecutionState, *, is_newer: bool) -> Ends:
    """Return what ends when an execution is to be given out, and the device has another.

    Args:
        priority: Of the rollout that is to be given out.
        other_priority: Of the rollout of the other execution.
        state: Of the other execution: not final, or SUCCEEDED and not replaced since.
        is_newer: The other execution is the newer.
    """
    if (other_priority, is_newer) < (priority, True):
        is_late = state is ExecutionState.QUEUED and not is_newer
        return Ends.OTHER if is_late or state is ExecutionState.IN_PROGRESS else Ends.NEITHER
    is_there = is_newer and state is not ExecutionState.QUEUED
    return Ends.MINE if is_there else Ends.NEITHER


def is_held(priority: int, other_priority: int, state: ExecutionState) -> bool:
    """Tell whether a queued execution waits for another of its device to end.

    Args:
        priority: Of the rollout of the queued one.
        other_priority: Of the rollout of the other.
        state: Of the other.
    """
    return state is ExecutionState.IN_PROGRESS and other_priority > priority
