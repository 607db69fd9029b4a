"""What to do next, from what is assigned and what was done. Pure.

One execution at a time, in the order in which they were queued; an execution that ended is never
run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from sprat_proto.assignment import AssignedModel, Assignment
from sprat_proto.states import ReasonCode, Step
from sprat_proto.trust import TargetCustom

from sprat_agent.sync import phases
from sprat_agent.sync.phases import Event, Phase

_FETCHING: Final = frozenset({Step.DOWNLOADING, Step.DOWNLOADED, Step.VERIFYING})


@dataclass(frozen=True)
class Reason:
    """Why an execution did not go on, as it travels."""

    code: ReasonCode
    message: str
    expected: str = ""
    found: str = ""


@dataclass(frozen=True)
class Execution:
    """One run towards a variant, as it was persisted."""

    execution_id: str
    wanted: AssignedModel
    context: int  # tokens
    phase: Phase
    reason: Reason | None = None
    watched_s: int = 0  # of its soak, over all starts of the agent


@dataclass(frozen=True)
class Held:
    """A variant that was committed here, and the context it ran with, in tokens."""

    wanted: AssignedModel
    context: int


@dataclass(frozen=True)
class Committed:
    """What an alias stands for, and the variant before it, kept to go back to."""

    wanted: AssignedModel
    context: int
    previous: Held | None = None

    @property
    def held(self) -> Held:
        """What the alias stands for, without what it stood for before."""
        return Held(self.wanted, self.context)


@dataclass(frozen=True)
class End:
    """End the execution by this event, without beginning its phase's effect (again)."""

    execution: Execution
    event: Event
    reason: Reason | None = None


@dataclass(frozen=True)
class Advance:
    """Carry out the phase that the execution is in."""

    execution: Execution


@dataclass(frozen=True)
class Queue:
    """Begin to know of an execution."""

    wanted: AssignedModel
    context: int


@dataclass(frozen=True)
class Forget:
    """The alias is assigned no longer: unload it and forget what it stood for."""

    alias: str


@dataclass(frozen=True)
class Rest:
    """All is as it should be, or waits for something new, or for its time."""


Action: TypeAlias = End | Advance | Queue | Forget | Rest


@dataclass(frozen=True)
class Hold:
    """An execution may not go on now."""

    until: datetime | None  # None: until it is known what time it is
    reason: Reason


@dataclass(frozen=True)
class Over:
    """An execution may not go on any more."""

    reason: Reason


Judge: TypeAlias = Callable[[Execution], Hold | Over | None]


def at_any_time(_execution: Execution) -> None:
    """Hold nothing."""


def next_action(
    assignment: Assignment | None,
    committed: Mapping[str, Committed],
    executions: Sequence[Execution],
    judge: Judge = at_any_time,
) -> Action:
    """Return the one thing to do now.

    What is superseded ends first, so that its memory and disk are there for what follows; an
    execution that is past that point is carried to its end before anything else begins. One that
    is held does not hold up others; one whose window is open goes before what only downloads.

    Args:
        assignment: The newest accepted one; None before the first.
        committed: By alias.
        executions: All that this device knows, in the order in which they were queued.
        judge: Says what may not go on now; see `holds.judge`.
    """
    assigned = {one.execution_id: one for one in assignment.models} if assignment else {}
    unfinished = [one for one in executions if not phases.is_final(one.phase)]
    for one in unfinished:
        is_wanted = assigned.get(one.execution_id) == one.wanted
        if not is_wanted and phases.takes(one.phase, Event.SUPERSEDED):
            return End(one, Event.SUPERSEDED)
    ready: list[Execution] = []
    for one in unfinished:
        if is_committed(one, committed) and not phases.is_under_way(one.phase):
            ready.append(one)
            continue
        match judge(one):
            case Over(reason):
                return End(one, Event.FAILED, reason)
            case Hold():
                pass
            case None:
                ready.append(one)
    under_way = [one for one in ready if phases.is_under_way(one.phase)]
    if under_way:
        return Advance(min(under_way, key=_turn))
    return _begin(assignment, committed, executions, ready)


def _turn(execution: Execution) -> int:
    if execution.phase in _FETCHING:
        return 2
    return 1 if execution.phase is Step.WAITING_WINDOW else 0


def _begin(
    assignment: Assignment | None,
    committed: Mapping[str, Committed],
    executions: Sequence[Execution],
    ready: Sequence[Execution],
) -> Action:
    if assignment is None:
        return Rest()
    aliases = {one.alias for one in assignment.models}
    for alias in sorted(committed):
        if alias not in aliases:
            return Forget(alias)
    known = {one.execution_id for one in executions}
    for wanted in assignment.models:
        if wanted.execution_id not in known:
            return Queue(wanted, assignment.policy.context)
    for one in ready:
        if is_committed(one, committed):
            return End(one, Event.ALREADY_COMMITTED)
        return Advance(one)
    return Rest()


def is_committed(execution: Execution, committed: Mapping[str, Committed]) -> bool:
    """Tell whether the alias already stands for what is wanted, the same way and as long."""
    now = committed.get(execution.wanted.alias)
    return (
        now is not None
        and now.wanted.digest == execution.wanted.digest
        and now.context == execution.context
        and now.wanted.run_until == execution.wanted.run_until
        and now.wanted.terms == execution.wanted.terms
        and now.wanted.fit_policy == execution.wanted.fit_policy
    )


def former(committed: Committed, is_quarantined: Callable[[str], bool]) -> Held | None:
    """Return what an alias goes back to when what it stands for is in quarantine, or None.

    Args:
        committed: What the alias stands for.
        is_quarantined: Tells of a digest whether it crashed too often here.
    """
    previous = committed.previous
    if previous is None or is_quarantined(previous.wanted.digest):
        return None
    return previous


def refusal_of_age(
    variant: str, custom: TargetCustom, floor: int, *, was_proved: bool
) -> Reason | None:
    """Return why a release is too old for this device, or None.

    Args:
        variant: `model@release+variant`, for the message.
        custom: What is released of the variant that is to be installed.
        floor: The highest release counter of this model that was ever committed here; 0 if none.
        was_proved: This very digest was committed here before: going back to it is allowed.
    """
    if was_proved or custom.release_counter >= floor:
        return None
    return Reason(
        ReasonCode.RELEASE_TOO_OLD,
        f"{variant} has release counter {custom.release_counter} and this device has already"
        f" committed {floor} of {custom.name}: refusing to go back to a release that never ran"
        " here; publish it anew with a higher counter",
        expected=f"release counter {floor} or higher",
        found=f"release counter {custom.release_counter}",
    )
