from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs
from sprat_controller.rollout.budget import Candidate, Load
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
from sprat_controller.rollout.grouping import Member, Placed
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.planner import RECHECK, decide, next_due
from sprat_controller.rollout.strategy import (
    LADDER,
    AbortAction,
    AbortCriterion,
    Extent,
    FailureType,
    Gate,
    Group,
    Membership,
    Pace,
    Strategy,
)
from sprat_proto.states import GroupState, RolloutState

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
R = RolloutState
SCHEDULED, RUNNING, SOAKING = GroupState.SCHEDULED, GroupState.RUNNING, GroupState.SOAKING
FINISHED, ERROR, ROLLED_BACK = GroupState.FINISHED, GroupState.ERROR, GroupState.ROLLED_BACK
TWO = Strategy(groups=(Group(devices=1), Group()))
ONE = Strategy()
QUEUE = (Candidate("a"), Candidate("b"))


def seconds(count: float) -> datetime:
    return NOW + timedelta(seconds=count)


def facts(strategy: Strategy, *groups: tuple[GroupState, Tally] | GroupFacts, **said: Any) -> Facts:
    made = [
        group if isinstance(group, GroupFacts) else GroupFacts(number, *group)
        for number, group in enumerate(groups)
    ]
    return replace(Facts(R.RUNNING, strategy, tuple(made)), **said)


def with_first(strategy: Strategy, **changes: Any) -> Strategy:
    """Return two groups, the first changed."""
    changed = structs.replace(strategy.groups[0], **changes)
    return structs.replace(strategy, groups=(changed, *strategy.groups[1:]))


def first(state: GroupState, tally: Tally, **said: Any) -> GroupFacts:
    return GroupFacts(0, state, tally, **said)


REST = (SCHEDULED, Tally(queued=9))
NOBODY = (SCHEDULED, Tally())
SOAKED = with_first(TWO, soak_s=60)
GATED = with_first(TWO, gate=Gate())
PROMOTED = with_first(TWO, waits_for_promotion=True)
MOST = with_first(TWO, success_percent=90)
LAST_GATED = Strategy(groups=(Group(gate=Gate()),))
CONTINUOUS = Strategy(groups=TWO.groups, membership=Membership.CONTINUOUS)


def miss(group: int, lost: int, counting: int, percent: int = 0) -> Abort:
    criterion = AbortCriterion(percent=percent, min_count=max(1, lost), acts_on=Extent.GROUP)
    return Abort(group, criterion, lost, counting, is_miss=True)


def aborting(action: AbortAction = AbortAction.PAUSE, **said: Any) -> AbortCriterion:
    return structs.replace(AbortCriterion(percent=20, min_count=2, action=action), **said)


def judged(*criteria: AbortCriterion, since: Tally | None = None, **counts: int) -> Facts:
    strategy = Strategy(groups=TWO.groups, abort=criteria)
    group = first(RUNNING, Tally(**counts), since=since or Tally())
    return facts(strategy, group, REST, queue=QUEUE)


PAUSE, CANCEL, ROLLBACK = aborting(), aborting(AbortAction.CANCEL), aborting(AbortAction.ROLLBACK)

OBJECTION = Reason("AUTHOR_MAY_NOT", "ann may not")
EXAMPLES: dict[str, tuple[Facts, list[Decision]]] = {
    "what waits for a person waits": (facts(ONE, REST, state=R.READY), []),
    "too early": (facts(ONE, REST, state=R.SCHEDULED, start_at=seconds(1)), []),
    "its time has come": (facts(ONE, REST, state=R.SCHEDULED, start_at=NOW), [StartRollout()]),
    "its time has come, and its author may not": (
        facts(ONE, REST, state=R.SCHEDULED, start_at=NOW, objection=OBJECTION),
        [HoldBack(OBJECTION)],
    ),
    "its author may not, and it is too early": (
        facts(ONE, REST, state=R.SCHEDULED, start_at=seconds(1), objection=OBJECTION),
        [],
    ),
    "without a time a person starts it": (facts(ONE, REST, state=R.SCHEDULED), []),
    "it runs": (facts(ONE, REST, state=R.STARTING), [RunRollout()]),
    # Groups
    "the first group starts": (facts(TWO, (SCHEDULED, Tally(queued=1)), REST), [StartGroup(0)]),
    "nobody is in the first": (
        facts(TWO, (SCHEDULED, Tally()), REST),
        [StartGroup(0), FinishGroup(0), StartGroup(1)],
    ),
    "nobody counts in the first": (
        facts(SOAKED, (RUNNING, Tally(excused=1, canceled=2, removed=1)), REST),
        [FinishGroup(0), StartGroup(1)],
    ),
    "the first is under way": (facts(TWO, (RUNNING, Tally(in_progress=1)), REST), []),
    "the first is through": (
        facts(TWO, (RUNNING, Tally(succeeded=1)), REST),
        [FinishGroup(0), StartGroup(1)],
    ),
    "9 of 10 are nine tenths": (
        facts(MOST, (RUNNING, Tally(succeeded=9, in_progress=1)), REST),
        [FinishGroup(0), StartGroup(1)],
    ),
    "89 of 100 are not": (facts(MOST, (RUNNING, Tally(succeeded=89, queued=11)), REST), []),
    "excused ones are no part of it": (
        facts(MOST, (RUNNING, Tally(succeeded=9, failed=1, excused=90)), REST),
        [FinishGroup(0), StartGroup(1)],
    ),
    "a share that cannot be reached": (
        facts(MOST, (RUNNING, Tally(succeeded=50, failed=11, queued=39)), REST, queue=QUEUE),
        [miss(0, 11, 100, percent=10)],
    ),
    "a share that still can": (
        facts(MOST, (RUNNING, Tally(succeeded=50, failed=10, queued=40)), REST),
        [],
    ),
    "it soaks": (
        facts(SOAKED, (RUNNING, Tally(succeeded=1)), REST),
        [SoakGroup(0, seconds(60))],
    ),
    "it still soaks": (
        facts(SOAKED, first(SOAKING, Tally(succeeded=1), soak_until=seconds(1)), REST),
        [],
    ),
    "it has soaked": (
        facts(SOAKED, first(SOAKING, Tally(succeeded=1), soak_until=NOW), REST),
        [FinishGroup(0), StartGroup(1)],
    ),
    "one fell back while it soaked": (
        facts(SOAKED, first(SOAKING, Tally(rolled_back=1), soak_until=NOW), REST),
        [miss(0, 1, 1)],
    ),
    "one came back while it soaked": (
        facts(SOAKED, first(SOAKING, Tally(succeeded=1, in_progress=1), soak_until=NOW), REST),
        [],
    ),
    "the gate has too few samples": (
        facts(GATED, first(RUNNING, Tally(succeeded=1), verdict=Verdict.HOLD), REST),
        [],
    ),
    "the gate was not judged": (facts(GATED, (RUNNING, Tally(succeeded=1)), REST), []),
    "the gate passes": (
        facts(GATED, first(RUNNING, Tally(succeeded=1), verdict=Verdict.PASS), REST),
        [FinishGroup(0), StartGroup(1)],
    ),
    "the gate fails before all is done": (
        facts(GATED, first(RUNNING, Tally(in_progress=1), verdict=Verdict.FAIL), REST),
        [FailGate(0)],
    ),
    "it waits for a person": (facts(PROMOTED, (RUNNING, Tally(succeeded=1)), REST), []),
    "a person promotes it": (
        facts(PROMOTED, first(RUNNING, Tally(succeeded=1), is_promoted=True), REST),
        [FinishGroup(0), StartGroup(1)],
    ),
    "a person promotes it whatever it waits for": (
        facts(GATED, first(RUNNING, Tally(queued=1), verdict=Verdict.FAIL, is_promoted=True), REST),
        [FinishGroup(0), StartGroup(1)],
    ),
    "a group in error holds all up": (
        facts(TWO, (ERROR, Tally(failed=1)), REST),
        [miss(0, 1, 1)],
    ),
    "a person goes past a group in error": (
        facts(TWO, first(ERROR, Tally(failed=1), is_promoted=True), REST),
        [StartGroup(1)],
    ),
    # The last group
    "the last group's failures hold nothing back": (
        facts(ONE, (RUNNING, Tally(failed=5, succeeded=1))),
        [FinishGroup(0)],
    ),
    "but it is waited for": (facts(ONE, (RUNNING, Tally(failed=5, in_progress=1))), []),
    "and for those that are away": (facts(ONE, (RUNNING, Tally(failed=5, excused=1))), []),
    "with a gate they do": (
        facts(LAST_GATED, first(RUNNING, Tally(failed=5), verdict=Verdict.HOLD)),
        [miss(0, 5, 5)],
    ),
    "its gate fails": (
        facts(LAST_GATED, first(RUNNING, Tally(succeeded=5), verdict=Verdict.FAIL)),
        [FailGate(0)],
    ),
    "the last one needs no promotion": (
        facts(Strategy(groups=(Group(waits_for_promotion=True),)), (RUNNING, Tally(succeeded=1))),
        [FinishGroup(0)],
    ),
    "all is over": (
        facts(TWO, (FINISHED, Tally(succeeded=1)), (FINISHED, Tally(failed=9))),
        [FinishRollout()],
    ),
    "the rest of a promoted group is waited for": (
        facts(TWO, (FINISHED, Tally(queued=1)), (FINISHED, Tally(failed=9))),
        [],
    ),
    "a continuous one goes on": (
        facts(CONTINUOUS, (FINISHED, Tally(succeeded=1)), (FINISHED, Tally(succeeded=9))),
        [],
    ),
    # Who joins
    "a joiner goes to the group that has not started": (
        facts(
            CONTINUOUS,
            (RUNNING, Tally(in_progress=1)),
            REST,
            joiners=(Member("new"),),
            salt="m@1",
        ),
        [Join((Placed("new", 1, 10),))],
    ),
    "nobody joins a snapshot": (
        facts(TWO, (RUNNING, Tally(in_progress=1)), REST, joiners=(Member("new"),)),
        [],
    ),
    # Starts
    "devices start": (
        facts(ONE, (RUNNING, Tally(queued=2)), queue=QUEUE),
        [Assign(("a", "b"))],
    ),
    "as many as the pace lets": (
        facts(
            Strategy(pace=Pace(max_in_progress=2)),
            (RUNNING, Tally(queued=2, in_progress=1)),
            queue=QUEUE,
            load=Load(in_progress=1),
        ),
        [Assign(("a",))],
    ),
    "what is promoted goes on beside the next": (
        facts(TWO, (FINISHED, Tally(queued=2)), (RUNNING, Tally(in_progress=9)), queue=QUEUE),
        [Assign(("a", "b"))],
    ),
    # What ends
    "ends come before starts": (
        facts(
            ONE,
            (RUNNING, Tally(queued=2, in_progress=2)),
            queue=QUEUE,
            removed=("r",),
            overdue=("o",),
        ),
        [Remove(("r",)), TimeOut(("o",))],
    ),
    "who is silent counts no more": (
        facts(TWO, (RUNNING, Tally(in_progress=1)), REST, silent=("s",)),
        [Excuse(("s",))],
    ),
    "who is back counts, whatever its deadline": (
        facts(TWO, (RUNNING, Tally(excused=1)), REST, returned=("s",), overdue=("s",)),
        [Readmit(("s",))],
    ),
    "a paused one starts nothing, and still ends what is overdue": (
        facts(
            TWO,
            (RUNNING, Tally(succeeded=1)),
            REST,
            state=R.PAUSED,
            queue=QUEUE,
            overdue=("o",),
        ),
        [TimeOut(("o",))],
    ),
    "a paused one stays": (facts(TWO, (RUNNING, Tally(succeeded=1)), REST, state=R.PAUSED), []),
    "a paused one judges no criterion": (replace(judged(ROLLBACK, failed=9), state=R.PAUSED), []),
    "after its end nothing starts": (
        facts(
            Strategy(ends_at=int(NOW.timestamp())),
            (RUNNING, Tally(queued=2, in_progress=1)),
            queue=QUEUE,
            unfinished=("a", "b"),
        ),
        [Cancel(("a", "b"))],
    ),
    "after its end what is under way is waited for": (
        facts(Strategy(ends_at=int(NOW.timestamp())), (RUNNING, Tally(in_progress=1)), queue=QUEUE),
        [],
    ),
    "after its end it is over, whatever did not start": (
        facts(
            Strategy(groups=TWO.groups, ends_at=int(NOW.timestamp())),
            (RUNNING, Tally(failed=1)),
            (SCHEDULED, Tally(canceled=9)),
        ),
        [FinishRollout()],
    ),
    "stopping": (
        facts(TWO, (RUNNING, Tally(queued=2)), REST, state=R.STOPPING, unfinished=("a", "b")),
        [Cancel(("a", "b"))],
    ),
    "stopping waits for who is on the way back": (
        facts(TWO, (ERROR, Tally(reverting=1)), (SCHEDULED, Tally()), state=R.STOPPING),
        [],
    ),
    "stopped": (facts(ONE, (RUNNING, Tally(canceled=2)), state=R.STOPPING), [StopRollout()]),
    "denied": (
        facts(ONE, REST, state=R.APPROVAL_DENIED, unfinished=("a",)),
        [Cancel(("a",))],
    ),
    # Rollbacks
    "rolling back": (
        facts(
            ONE,
            (RUNNING, Tally(queued=1, succeeded=1)),
            state=R.ROLLING_BACK,
            unfinished=("a",),
            proved=("b",),
        ),
        [Cancel(("a",)), Revert(("b",))],
    ),
    "rolling back waits for the way back": (
        facts(ONE, (RUNNING, Tally(canceled=1, reverting=1)), state=R.ROLLING_BACK),
        [],
    ),
    "rolled back, but for what ran it before": (
        facts(ONE, (RUNNING, Tally(taken_back=1, succeeded=1)), state=R.ROLLING_BACK),
        [EndRollback()],
    ),
    "a group goes back while the rollout is paused": (
        facts(
            TWO,
            first(ERROR, Tally(succeeded=1, failed=1), goes_back=True),
            REST,
            state=R.PAUSED,
            proved=("a",),
        ),
        [Revert(("a",))],
    ),
    "a group is back": (
        facts(
            TWO,
            first(ERROR, Tally(taken_back=1, failed=1), goes_back=True),
            REST,
            state=R.PAUSED,
        ),
        [EndRollback(0)],
    ),
    "a group is not back yet": (
        facts(TWO, first(ERROR, Tally(reverting=1), goes_back=True), REST, state=R.PAUSED),
        [],
    ),
    "a group that was canceled stays in error": (
        facts(TWO, (ERROR, Tally(canceled=1, failed=1)), REST, state=R.PAUSED),
        [],
    ),
    # Aborts
    # (By default all of a group must succeed: what no criterion ends is missed for good.)
    "too few failures to abort": (judged(PAUSE, failed=1, queued=2), [miss(0, 1, 3)]),
    "too small a share to abort": (
        judged(aborting(percent=67), failed=2, succeeded=1, queued=2),
        [miss(0, 2, 5)],
    ),
    "just the share": (
        judged(PAUSE, failed=2, succeeded=8, queued=2),
        [Abort(0, PAUSE, 2, 10)],
    ),
    "other failures than asked": (
        judged(aborting(failure=FailureType.TIMED_OUT, percent=0), failed=2, timed_out=1),
        [miss(0, 3, 3)],
    ),
    "the failure that is asked": (
        judged(aborting(failure=FailureType.ROLLED_BACK), rolled_back=2),
        [Abort(0, aborting(failure=FailureType.ROLLED_BACK), 2, 2)],
    ),
    "the hardest action counts": (
        judged(PAUSE, ROLLBACK, CANCEL, failed=5),
        [Abort(0, ROLLBACK, 5, 5)],
    ),
    "what failed before a resume counts no more": (
        judged(PAUSE, since=Tally(failed=5, succeeded=4), failed=6, succeeded=5, queued=2),
        [miss(0, 6, 13)],
    ),
    "what failed since does": (
        judged(PAUSE, since=Tally(failed=5, succeeded=5), failed=7, succeeded=5),
        [Abort(0, PAUSE, 2, 2)],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_decide(name: str) -> None:
    given, expected = EXAMPLES[name]
    assert decide(given, NOW) == expected
    assert decide(given, NOW) == decide(given, NOW)


def test_failures_are_counted_within_a_group_or_over_all() -> None:
    groups = ((FINISHED, Tally(succeeded=9, failed=1)), (RUNNING, Tally(queued=1, failed=1)))
    alone = Strategy(groups=TWO.groups, abort=(aborting(),))
    together = Strategy(groups=TWO.groups, abort=(aborting(percent=10, extent=Extent.ROLLOUT),))
    assert decide(facts(alone, *groups, queue=QUEUE), NOW) == [Assign(("a", "b"))]
    assert decide(facts(together, *groups, queue=QUEUE), NOW) == [
        Abort(1, together.abort[0], 2, 11)
    ]


def test_what_fails_late_in_a_promoted_group_is_judged_too() -> None:
    strategy = Strategy(groups=TWO.groups, abort=(ROLLBACK,))
    given = facts(strategy, (FINISHED, Tally(failed=3)), (RUNNING, Tally(queued=9)), queue=QUEUE)
    assert decide(given, NOW) == [Abort(0, ROLLBACK, 3, 3)]


def test_a_group_in_error_is_judged_no_more() -> None:
    strategy = Strategy(groups=TWO.groups, abort=(ROLLBACK,))
    given = facts(strategy, (ERROR, Tally(failed=3)), REST)
    assert decide(given, NOW) == [miss(0, 3, 3)]


def laddered(*, canary: Tally, second: Tally) -> list[Decision]:
    """Return what is decided on a ladder whose canary is through and whose second group runs."""
    state = FINISHED if canary.succeeded else RUNNING
    after = SCHEDULED if state is RUNNING else RUNNING
    rest = [(SCHEDULED, Tally(queued=9))] * 3
    return decide(facts(LADDER, (state, canary), (after, second), *rest), NOW)


def test_the_canary_of_the_ladder_that_fails_pauses_the_rollout() -> None:
    assert laddered(canary=Tally(failed=1), second=Tally(queued=9)) == [miss(0, 1, 1)]


GOOD = Tally(succeeded=1)
PAUSED_BY_LADDER = {one.failure: one for one in LADDER.abort}


def test_one_failure_in_a_large_group_of_the_ladder_holds_nothing_up() -> None:
    assert laddered(canary=GOOD, second=Tally(queued=80, succeeded=19, rolled_back=1)) == []
    found = laddered(canary=GOOD, second=Tally(in_progress=5, succeeded=90, failed=5))
    assert found == [FinishGroup(1), StartGroup(2)]


@pytest.mark.parametrize(
    ("failure", "few", "many"),
    [
        (FailureType.ROLLED_BACK, Tally(succeeded=19, rolled_back=2), 3),
        (FailureType.FAILED, Tally(succeeded=9, failed=2), 3),
        (FailureType.TIMED_OUT, Tally(succeeded=9, timed_out=2), 3),
        (FailureType.REJECTED, Tally(succeeded=9, rejected=2), 3),
    ],
)
def test_the_ladder_pauses_a_group_in_which_a_share_of_what_ended_failed(
    failure: FailureType, few: Tally, many: int
) -> None:
    """Long before the group could no longer come to its share."""
    name = failure.value.lower()
    held = replace(few, queued=79)
    assert laddered(canary=GOOD, second=held) == []
    worse = replace(held, **{name: many})
    abort = Abort(1, PAUSED_BY_LADDER[failure], many, worse.judged)
    assert laddered(canary=GOOD, second=worse) == [abort]


def test_devices_that_refuse_at_once_are_not_judged_before_others_ended() -> None:
    rejected = Tally(queued=90, rejected=9)
    assert laddered(canary=GOOD, second=rejected) == []
    found = laddered(canary=GOOD, second=replace(rejected, succeeded=1))
    assert found == [Abort(1, PAUSED_BY_LADDER[FailureType.REJECTED], 9, 10)]


def test_a_group_in_which_fewer_ended_is_judged_once_all_of_it_has() -> None:
    criterion = AbortCriterion(percent=50, min_count=2, min_ended=100)
    strategy = Strategy(groups=(Group(success_percent=0), Group()), abort=(criterion,))
    rest = (SCHEDULED, Tally(queued=5))
    runs = Tally(in_progress=1, failed=2, succeeded=1)
    assert not any(
        isinstance(one, Abort) for one in decide(facts(strategy, (RUNNING, runs), rest), NOW)
    )
    # Those that are away for too long, canceled or removed are not waited for.
    ended = replace(runs, in_progress=0, excused=1, canceled=1, removed=1)
    assert decide(facts(strategy, (RUNNING, ended), rest), NOW) == [Abort(0, criterion, 2, 3)]
    # Over the whole rollout the other group is still to come.
    whole = structs.replace(criterion, extent=Extent.ROLLOUT)
    strategy = structs.replace(strategy, abort=(whole,))
    found = decide(facts(strategy, (RUNNING, ended), rest), NOW)
    assert not any(isinstance(one, Abort) for one in found)


DUE: dict[str, tuple[Facts, datetime | None]] = {
    "its start": (facts(ONE, REST, state=R.SCHEDULED, start_at=seconds(9)), seconds(9)),
    "a person": (facts(ONE, REST, state=R.READY), None),
    "it is looked at again": (facts(ONE, (RUNNING, Tally(in_progress=1))), NOW + RECHECK),
    "a deadline": (
        facts(ONE, (RUNNING, Tally(in_progress=1)), wakes_at=seconds(5)),
        seconds(5),
    ),
    "a soak": (
        facts(SOAKED, first(SOAKING, Tally(succeeded=1), soak_until=seconds(7)), REST),
        seconds(7),
    ),
    "the pace": (
        facts(
            Strategy(pace=Pace(starts_per_minute=1)),
            (RUNNING, Tally(queued=2)),
            queue=QUEUE,
            load=Load(starts_last_minute=1, oldest_start_at=seconds(-50)),
        ),
        seconds(10),
    ),
    "its end": (
        facts(Strategy(ends_at=int(seconds(3).timestamp())), (RUNNING, Tally(in_progress=1))),
        seconds(3),
    ),
    "a gate, though all have ended": (
        facts(
            GATED, first(RUNNING, Tally(succeeded=1), verdict=Verdict.HOLD), (SCHEDULED, Tally())
        ),
        NOW + RECHECK,
    ),
    "who may join": (
        facts(CONTINUOUS, (FINISHED, Tally(succeeded=1)), (FINISHED, Tally())),
        NOW + RECHECK,
    ),
    "a promotion": (
        facts(PROMOTED, (RUNNING, Tally(succeeded=1)), (SCHEDULED, Tally())),
        None,
    ),
    "what is under way in a paused one": (
        facts(ONE, (RUNNING, Tally(in_progress=1)), state=R.PAUSED, wakes_at=seconds(5)),
        seconds(5),
    ),
    "a person, once a paused one is at rest": (
        facts(ONE, (RUNNING, Tally(failed=1)), state=R.PAUSED),
        None,
    ),
    "the way back": (
        facts(ONE, (RUNNING, Tally(reverting=1)), state=R.ROLLING_BACK, wakes_at=seconds(5)),
        seconds(5),
    ),
    "nothing more": (facts(ONE, (FINISHED, Tally(succeeded=1)), state=R.FINISHED), None),
}


@pytest.mark.parametrize("name", DUE)
def test_next_due(name: str) -> None:
    given, expected = DUE[name]
    assert decide(given, NOW) == []
    assert next_due(given, NOW) == expected
