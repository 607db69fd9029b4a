"""What a rollout does next: facts and `now` in, decisions out. Pure.

A look goes through these in order, and decides only what the first of them asks for; the next look
sees what came of it:

- An abort criterion that is met. It is judged before anything starts, and nothing starts after it.
  Of several the hardest action counts. What failed before a person resumed counts no more.
- What ends or returns: devices that were removed or are back, executions past their deadlines,
  those of devices that are silent, and what is to be canceled or taken back. A PAUSED rollout does
  this too, and nothing else.
- Groups, in order: the next starts when the one before is FINISHED. A group is that when enough of
  what counts in it succeeded, it was watched, its gate says PASS and, if it asks for it, a person
  promoted it. One that can no longer come to its share, or whose gate says FAIL, has the rollout
  PAUSED. Where nobody counts, or a person promoted, nothing is waited for. A group in ERROR is gone
  past only by a promotion.
- Nothing comes after the last group: it waits for no promotion and, without a gate, its share holds
  nothing back once all of it has ended.
- Devices that come to a CONTINUOUS rollout; then, as far as pace and budgets let them, starts: in
  all groups that started, in order of position.
- The end: every group is through and every execution final. A CONTINUOUS rollout ends only at its
  `ends_at`. After that time nothing starts, what is QUEUED is canceled, and the rest ends.

The same facts give the same decisions; a decision on old facts is harmless, because carrying it out
checks the states again. Deciding and carrying out again and again comes to rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from sprat_proto.states import GroupState, RolloutState

from sprat_controller.rollout import budget, grouping
from sprat_controller.rollout.facts import (
    Abort,
    Assign,
    Cancel,
    Decision,
    EndRollback,
    Excuse,
    Facts,
    FailGate,
    FinishGroup,
    FinishRollout,
    GroupFacts,
    HoldBack,
    Join,
    Readmit,
    Remove,
    Revert,
    RunRollout,
    SoakGroup,
    StartGroup,
    StartRollout,
    StopRollout,
    Tally,
    TimeOut,
    Verdict,
)
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    Extent,
    FailureType,
    Group,
    Membership,
)

# A rollout under way is looked at this often even if nothing seems due: what other rollouts and
# devices change (budgets, gates, who matches the target) wakes nobody.
RECHECK: Final = timedelta(seconds=60)

_ALL: Final = 100  # percent
_STARTED: Final = (GroupState.RUNNING, GroupState.SOAKING, GroupState.FINISHED)
_GIVEN_UP: Final = (GroupState.ERROR, GroupState.ROLLED_BACK)
_HARDNESS: Final = {AbortAction.PAUSE: 0, AbortAction.CANCEL: 1, AbortAction.ROLLBACK: 2}
_TALLY: Final = tuple(one.name for one in fields(Tally))

DecisionT = TypeVar("DecisionT", bound=Decision)


def decide(facts: Facts, now: datetime) -> list[Decision]:
    """Return what is to be done now, in order; nothing if the rollout waits.

    Args:
        facts: As they stand now.
        now: The caller's clock, timezone-aware.
    """
    turn = _TURNS.get(facts.state)
    return turn(facts, now) if turn else []


def next_due(facts: Facts, now: datetime) -> datetime | None:
    """Return when `decide` must be asked again if nothing is reported before; None: never.

    Args:
        facts: Those on which `decide` decided nothing.
        now: The same moment.
    """
    if facts.state is RolloutState.SCHEDULED:
        return facts.start_at
    if facts.state is not RolloutState.RUNNING:
        is_working = facts.state in _TURNS and _unfinished(facts)
        return _earliest([facts.wakes_at, _recheck(now)]) if is_working else None
    times = [group.soak_until for group in facts.groups if group.state is GroupState.SOAKING]
    times += [facts.wakes_at, budget.admit(facts.strategy, facts.load, facts.queue).again_at]
    times.append(_ends_at(facts))
    if _unfinished(facts) or _is_continuous(facts) or _waits_for_gate(facts):
        times.append(_recheck(now))
    return _earliest([one for one in times if one is not None and one > now])


def _recheck(now: datetime) -> datetime:
    return now + RECHECK


def _earliest(times: Sequence[datetime | None]) -> datetime | None:
    return min((one for one in times if one is not None), default=None)


def _start(facts: Facts, now: datetime) -> list[Decision]:
    is_due = facts.start_at is not None and facts.start_at <= now
    if not is_due:
        return []
    return [StartRollout() if facts.objection is None else HoldBack(facts.objection)]


def _run(facts: Facts, now: datetime) -> list[Decision]:
    return _abort(facts) or _keep_counted(facts) or _end(facts) or _proceed(facts, now)


# What is done in each state; in all others nothing is.
_TURNS: Final[Mapping[RolloutState, Callable[[Facts, datetime], list[Decision]]]] = {
    RolloutState.SCHEDULED: _start,
    RolloutState.STARTING: lambda _, __: [RunRollout()],
    RolloutState.RUNNING: _run,
    RolloutState.PAUSED: lambda facts, _: _keep_counted(facts) or _end(facts),
    RolloutState.STOPPING: lambda facts, _: _end(facts) or _once_ended(facts, StopRollout()),
    RolloutState.ROLLING_BACK: lambda facts, _: _end(facts) or _once_ended(facts, EndRollback()),
    RolloutState.APPROVAL_DENIED: lambda facts, _: _end(facts),
}


# What goes wrong


def _abort(facts: Facts) -> list[Decision]:
    """Return the hardest of the aborts whose criteria are met; the first of equals."""
    met = [one for criterion in facts.strategy.abort for one in _met(facts, criterion)]
    return [max(met, key=_hardness)] if met else []


def _hardness(abort: Abort) -> tuple[int, bool]:
    criterion = abort.criterion
    return _HARDNESS[criterion.action], criterion.acts_on is Extent.ROLLOUT


def _met(facts: Facts, criterion: AbortCriterion) -> list[Abort]:
    started = [group for group in facts.groups if group.state in _STARTED]
    if criterion.extent is Extent.GROUP:
        counted = [(group.number, [group]) for group in started]
    else:
        counted = [(group.number, facts.groups) for group in started[-1:]]
    found: list[Abort] = []
    for number, groups in counted:
        failures = sum(_since(group, criterion.failure) for group in groups)
        judged = sum(max(0, group.tally.judged - group.since.judged) for group in groups)
        is_share = failures * _ALL >= criterion.percent * judged
        is_judged = judged >= criterion.min_ended or not any(_goes_on(one.tally) for one in groups)
        if failures >= criterion.min_count and is_share and is_judged:
            found.append(Abort(number, criterion, failures, judged))
    return found


def _goes_on(tally: Tally) -> int:
    """Return how many of those that count have not ended."""
    return tally.queued + tally.in_progress + tally.reverting


def _since(group: GroupFacts, failure: FailureType) -> int:
    """Return how many ended so since a person last resumed the rollout after an abort."""
    return max(0, _failures(group.tally, failure) - _failures(group.since, failure))


def _failures(tally: Tally, failure: FailureType) -> int:
    match failure:
        case FailureType.FAILED:
            return tally.failed
        case FailureType.REJECTED:
            return tally.rejected
        case FailureType.TIMED_OUT:
            return tally.timed_out
        case FailureType.ROLLED_BACK:
            return tally.rolled_back
        case FailureType.ALL:
            return tally.failures


def _miss(group: GroupFacts, asked: Group) -> Abort:
    """Return how it is said that a group cannot come to its share any more."""
    lost = group.tally.counting - _possible(group.tally)
    criterion = AbortCriterion(
        percent=_ALL - asked.success_percent,
        min_count=max(1, lost),
        extent=Extent.GROUP,
        action=AbortAction.PAUSE,
        acts_on=Extent.GROUP,
    )
    return Abort(group.number, criterion, lost, group.tally.counting, is_miss=True)


# What ends, returns or counts no more


def _keep_counted(facts: Facts) -> list[Decision]:
    """Have those that are back count again, and those that are silent count no more."""
    return [*_of(Readmit, facts.returned), *_of(Excuse, facts.silent)]


def _end(facts: Facts) -> list[Decision]:
    decisions: list[Decision] = [
        *_of(Remove, facts.removed),
        *_of(TimeOut, facts.overdue),
        *_of(Cancel, facts.unfinished),
        *_of(Revert, facts.proved),
    ]
    if decisions:
        return decisions
    return [
        EndRollback(group.number)
        for group in facts.groups
        if group.state is GroupState.ERROR and group.goes_back and not group.tally.unfinished
    ]


def _once_ended(facts: Facts, decision: Decision) -> list[Decision]:
    return [] if _unfinished(facts) else [decision]


def _unfinished(facts: Facts) -> int:
    return sum(group.tally.unfinished for group in facts.groups)


def _of(
    decision: Callable[[tuple[str, ...]], DecisionT], executions: tuple[str, ...]
) -> list[DecisionT]:
    return [decision(executions)] if executions else []


# How it goes on


def _proceed(facts: Facts, now: datetime) -> list[Decision]:
    ends_at = _ends_at(facts)
    if ends_at is not None and ends_at <= now:
        return _once_ended(facts, FinishRollout())
    return _groups(facts, now) or _join(facts) or _assign(facts) or _finish(facts)


def _groups(facts: Facts, now: datetime) -> list[Decision]:
    """Return what the first group that is not through does; it may let those after it start."""
    decisions: list[Decision] = []
    for group, asked in zip(facts.groups, facts.strategy.groups, strict=True):
        if _is_through(group):
            continue
        is_last = group.number == len(facts.groups) - 1
        steps = _turn(group, asked, now, is_last=is_last)
        decisions += steps
        if not steps or not isinstance(steps[-1], FinishGroup):
            break
    return decisions


def _is_through(group: GroupFacts) -> bool:
    """Tell whether the next one may start."""
    if group.state in _GIVEN_UP:
        return group.is_promoted
    return group.state is GroupState.FINISHED


def _turn(group: GroupFacts, asked: Group, now: datetime, *, is_last: bool) -> list[Decision]:
    match group.state:
        case GroupState.SCHEDULED:
            start = StartGroup(group.number)
            return [start] if group.tally.counting else [start, FinishGroup(group.number)]
        case GroupState.RUNNING | GroupState.SOAKING:
            return _judge(group, asked, now, is_last=is_last)
        case GroupState.ERROR | GroupState.ROLLED_BACK:
            return [_miss(group, asked)]
        case _:
            return []


def _judge(group: GroupFacts, asked: Group, now: datetime, *, is_last: bool) -> list[Decision]:
    tally = group.tally
    if group.is_promoted or not tally.counting:
        return [FinishGroup(group.number)]
    if asked.gate is not None and group.verdict is Verdict.FAIL:
        return [FailGate(group.number)]
    is_open = is_last and asked.gate is None
    least = asked.success_percent * tally.counting
    if not is_open and _possible(tally) * _ALL < least:
        return [_miss(group, asked)]
    if tally.succeeded * _ALL >= least or (is_open and not tally.unfinished):
        return _prove(group, asked, now, is_last=is_last)
    return []


def _possible(tally: Tally) -> int:
    """Return how many of those that count have succeeded or may still."""
    return tally.succeeded + tally.queued + tally.in_progress


def _prove(group: GroupFacts, asked: Group, now: datetime, *, is_last: bool) -> list[Decision]:
    """Return what a group does of which enough succeeded."""
    if group.state is GroupState.RUNNING and asked.soak_s:
        return [SoakGroup(group.number, now + timedelta(seconds=asked.soak_s))]
    if group.soak_until is not None and now < group.soak_until:
        return []
    is_held = asked.gate is not None and group.verdict is not Verdict.PASS
    if is_held or (asked.waits_for_promotion and not is_last):
        return []
    return [FinishGroup(group.number)]


def _join(facts: Facts) -> list[Decision]:
    if not facts.joiners or not _is_continuous(facts):
        return []
    held = [_total(group.tally) for group in facts.groups]
    scheduled = (group.number for group in facts.groups if group.state is GroupState.SCHEDULED)
    placed = grouping.join(
        facts.joiners,
        facts.strategy,
        facts.salt,
        held=held,
        first_open=next(scheduled, len(facts.groups)),
        next_position=sum(held),
    )
    return [Join(tuple(placed))]


def _total(tally: Tally) -> int:
    return sum(getattr(tally, name) for name in _TALLY)


def _assign(facts: Facts) -> list[Decision]:
    return [*_of(Assign, budget.admit(facts.strategy, facts.load, facts.queue).starts)]


def _finish(facts: Facts) -> list[Decision]:
    if _is_continuous(facts) or not all(_is_through(group) for group in facts.groups):
        return []
    return _once_ended(facts, FinishRollout())


def _ends_at(facts: Facts) -> datetime | None:
    ends_at = facts.strategy.ends_at
    return datetime.fromtimestamp(ends_at, UTC) if ends_at else None


def _is_continuous(facts: Facts) -> bool:
    return facts.strategy.membership is Membership.CONTINUOUS


def _waits_for_gate(facts: Facts) -> bool:
    return any(
        asked.gate is not None and group.state in (GroupState.RUNNING, GroupState.SOAKING)
        for group, asked in zip(facts.groups, facts.strategy.groups, strict=True)
    )
