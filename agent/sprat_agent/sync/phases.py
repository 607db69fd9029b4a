"""The execution's state machine, as one table. Pure.

Each phase is persisted before its effect, and every effect may be begun again, so a device that
loses power goes on in the phase that was persisted. Until the transaction that completes COMMITTING
the previous model is what the alias stands for; nothing after it rolls back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from sprat_proto.states import ExecutionState, Step

# A Step while it is in progress, else QUEUED or a final state; stored by these names.
Phase: TypeAlias = Step | ExecutionState


class Event(StrEnum):
    """What ends a phase."""

    DONE = "DONE"  # its effect is complete
    # Its effect cannot be had, or its time is over: there is a reason.
    FAILED = "FAILED"
    REJECTED = "REJECTED"  # by this device's own facts the variant does not fit: there is a reason
    SUPERSEDED = "SUPERSEDED"  # a newer assignment wants something else
    ALREADY_COMMITTED = "ALREADY_COMMITTED"  # an earlier execution proved and committed the same


_QUEUED: Final = ExecutionState.QUEUED
_SUCCEEDED: Final = ExecutionState.SUCCEEDED
_FAILED: Final = ExecutionState.FAILED
_REJECTED: Final = ExecutionState.REJECTED
_CANCELED: Final = ExecutionState.CANCELED
_ROLLED_BACK: Final = ExecutionState.ROLLED_BACK

TRANSITIONS: Final[Mapping[Phase, Mapping[Event, Phase]]] = {
    _QUEUED: {
        Event.DONE: Step.DOWNLOADING,
        Event.ALREADY_COMMITTED: _SUCCEEDED,
        Event.FAILED: _FAILED,
        Event.SUPERSEDED: _CANCELED,
    },
    Step.DOWNLOADING: {
        Event.DONE: Step.DOWNLOADED,
        Event.FAILED: _FAILED,
        Event.REJECTED: _REJECTED,
        Event.SUPERSEDED: _CANCELED,
    },
    Step.DOWNLOADED: {
        Event.DONE: Step.VERIFYING,
        Event.FAILED: _FAILED,
        Event.SUPERSEDED: _CANCELED,
    },
    Step.VERIFYING: {
        Event.DONE: Step.WAITING_WINDOW,
        Event.FAILED: _FAILED,
        Event.SUPERSEDED: _CANCELED,
    },
    Step.WAITING_WINDOW: {
        Event.DONE: Step.INSTALLING,
        Event.FAILED: _FAILED,
        Event.SUPERSEDED: _CANCELED,
    },
    Step.INSTALLING: {
        Event.DONE: Step.PROBING,
        Event.FAILED: _FAILED,
        Event.REJECTED: _REJECTED,
        Event.SUPERSEDED: _CANCELED,
    },
    Step.PROBING: {
        Event.DONE: Step.ACTIVATING,
        Event.FAILED: Step.ROLLING_BACK,
        Event.SUPERSEDED: _CANCELED,
    },
    Step.ACTIVATING: {
        Event.DONE: Step.SOAKING,
        Event.FAILED: Step.ROLLING_BACK,
        Event.SUPERSEDED: _CANCELED,
    },
    Step.SOAKING: {
        Event.DONE: Step.COMMITTING,
        Event.FAILED: Step.ROLLING_BACK,
        Event.SUPERSEDED: _CANCELED,
    },
    # The candidate may be gone after a restart here; the pointer has not moved yet.
    Step.COMMITTING: {Event.DONE: _SUCCEEDED, Event.FAILED: Step.ROLLING_BACK},
    Step.ROLLING_BACK: {Event.DONE: _ROLLED_BACK},
    _SUCCEEDED: {},
    _FAILED: {},
    _REJECTED: {},
    _CANCELED: {},
    _ROLLED_BACK: {},
}


def after(phase: Phase, event: Event) -> Phase:
    """Return the phase that follows.

    Raises:
        ValueError: The event does not end this phase: a bug.
    """
    following = TRANSITIONS[phase].get(event)
    if following is None:
        raise ValueError(f"an execution in {phase} cannot take {event}")
    return following


def takes(phase: Phase, event: Event) -> bool:
    """Tell whether the event may end this phase."""
    return event in TRANSITIONS[phase]


def is_final(phase: Phase) -> bool:
    """Tell whether nothing follows the phase."""
    return not TRANSITIONS[phase]


def is_under_way(phase: Phase) -> bool:
    """Tell whether effects of the execution may exist."""
    return phase is not _QUEUED and not is_final(phase)


def state_of(phase: Phase) -> tuple[ExecutionState, Step | None]:
    """Return the state and step that a report says."""
    if isinstance(phase, Step):
        return ExecutionState.IN_PROGRESS, phase
    return phase, None


def phase_named(name: str) -> Phase:
    """Return the phase that was stored by this name.

    Raises:
        ValueError: No phase has this name.
    """
    if name in Step.__members__:
        return Step(name)
    phase = ExecutionState(name)
    if phase not in TRANSITIONS:
        raise ValueError(f"{name} is not a phase of an execution on a device")
    return phase
