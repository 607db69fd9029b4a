from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout import planner
from sprat_controller.rollout.planner import (
    CHUNK,
    RECHECK,
    Assign,
    Cancel,
    ExecutionFacts,
    FinishRollout,
    Remove,
    RolloutFacts,
    RunRollout,
    StartRollout,
    StopRollout,
    TimeOut,
    decide,
    next_due,
)
from sprat_proto.states import ExecutionState, RolloutState

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
QUEUED, IN_PROGRESS = ExecutionState.QUEUED, ExecutionState.IN_PROGRESS


def rollout(state: RolloutState, limit: int = 0, start_at: datetime | None = None) -> RolloutFacts:
    return RolloutFacts(state, start_at, limit)


def execution(
    name: str,
    state: ExecutionState = QUEUED,
    *,
    left_s: int | None = None,
    removed: bool = False,
) -> ExecutionFacts:
    deadline = None if left_s is None else NOW + timedelta(seconds=left_s)
    return ExecutionFacts(name, state, deadline, removed)


def test_a_scheduled_rollout_starts_at_its_time_and_not_before() -> None:
    for seconds, expected in ((1, []), (0, [StartRollout()]), (-9, [StartRollout()])):
        at = NOW + timedelta(seconds=seconds)
        facts = rollout(RolloutState.SCHEDULED, start_at=at)
        assert decide(facts, [execution("a")], NOW) == expected
        assert next_due(facts, [execution("a")], NOW) == at


def test_a_starting_rollout_runs() -> None:
    assert decide(rollout(RolloutState.STARTING), [], NOW) == [RunRollout()]


def test_a_running_rollout_without_limit_assigns_all_in_order() -> None:
    decisions = decide(rollout(RolloutState.RUNNING), [execution("b"), execution("a")], NOW)
    assert decisions == [Assign(("b", "a"))]


def test_a_decision_is_never_longer_than_a_chunk() -> None:
    many = [execution(f"e{number}") for number in range(2 * CHUNK + 1)]
    decisions = decide(rollout(RolloutState.RUNNING), many, NOW)
    assert [len(one.executions) for one in decisions if isinstance(one, Assign)] == [100, 100, 1]


def test_what_ends_makes_room_for_what_waits() -> None:
    unfinished = [
        execution("late", IN_PROGRESS, left_s=0),
        execution("gone", IN_PROGRESS, left_s=9, removed=True),
        execution("busy", IN_PROGRESS, left_s=9),
        execution("next"),
        execution("last"),
        execution("after"),
    ]
    assert decide(rollout(RolloutState.RUNNING, 3), unfinished, NOW) == [
        Remove(("gone",)),
        TimeOut(("late",)),
        Assign(("next", "last")),
    ]


def test_a_paused_rollout_starts_none_but_still_times_out() -> None:
    unfinished = [execution("late", IN_PROGRESS, left_s=-1), execution("waits")]
    assert decide(rollout(RolloutState.PAUSED), unfinished, NOW) == [TimeOut(("late",))]
    assert decide(rollout(RolloutState.PAUSED), [], NOW) == []


def test_a_rollout_finishes_when_nothing_is_unfinished_and_not_before() -> None:
    running = rollout(RolloutState.RUNNING)
    assert decide(running, [], NOW) == [FinishRollout()]
    assert decide(running, [execution("a", IN_PROGRESS, left_s=1)], NOW) == []


def test_a_stopping_rollout_cancels_the_unfinished_and_then_stops() -> None:
    unfinished = [
        execution("a", IN_PROGRESS, left_s=1),
        execution("b"),
        execution("c", removed=True),
    ]
    stopping = rollout(RolloutState.STOPPING)
    assert decide(stopping, unfinished, NOW) == [Remove(("c",)), Cancel(("a", "b"))]
    assert decide(stopping, [], NOW) == [StopRollout()]


def test_a_rollout_under_way_is_looked_at_at_its_next_deadline_or_soon() -> None:
    running = rollout(RolloutState.RUNNING)
    soon = execution("a", IN_PROGRESS, left_s=5)
    assert next_due(running, [soon, execution("b")], NOW) == NOW + timedelta(seconds=5)
    assert next_due(running, [execution("b")], NOW) == NOW + RECHECK
    for state in (RolloutState.READY, RolloutState.FINISHED, RolloutState.STOPPED):
        assert next_due(rollout(state), [], NOW) is None
        assert decide(rollout(state), [], NOW) == []


executions = st.lists(
    st.builds(
        ExecutionFacts,
        st.uuids().map(str),
        st.sampled_from([QUEUED, IN_PROGRESS]),
        st.none() | st.integers(-60, 60).map(lambda s: NOW + timedelta(seconds=s)),
        st.booleans(),
    ),
    max_size=250,
    unique_by=lambda one: one.id,
)
states = st.sampled_from(list(RolloutState))


def ids(decisions: list[planner.Decision], kind: type[planner.Decision]) -> list[str]:
    return [
        name
        for one in decisions
        if isinstance(one, kind) and isinstance(one, Assign | TimeOut | Remove | Cancel)
        for name in one.executions
    ]


@given(states, executions, st.integers(0, 20))
def test_never_more_than_the_limit_are_under_way(
    state: RolloutState, unfinished: list[ExecutionFacts], limit: int
) -> None:
    decisions = decide(rollout(state, limit), unfinished, NOW)
    assigned = ids(decisions, Assign)
    ended = {*ids(decisions, Remove), *ids(decisions, TimeOut)}
    busy = [one for one in unfinished if one.state is IN_PROGRESS and one.id not in ended]
    if limit and assigned:
        assert len(busy) + len(assigned) <= limit
    if assigned:
        assert state is RolloutState.RUNNING


@given(states, executions, st.integers(0, 20))
def test_an_execution_is_decided_once_and_only_what_may_be_is(
    state: RolloutState, unfinished: list[ExecutionFacts], limit: int
) -> None:
    decisions = decide(rollout(state, limit), unfinished, NOW)
    named = [name for kind in (Assign, TimeOut, Remove, Cancel) for name in ids(decisions, kind)]
    assert len(named) == len(set(named))
    by_id = {one.id: one for one in unfinished}
    assert all(by_id[name].state is QUEUED for name in ids(decisions, Assign))
    assert all(by_id[name].state is IN_PROGRESS for name in ids(decisions, TimeOut))
    assert all(by_id[name].device_removed for name in ids(decisions, Remove))


@given(executions, st.integers(0, 20))
def test_a_running_rollout_always_does_something_or_waits_for_a_device_or_a_moment(
    unfinished: list[ExecutionFacts], limit: int
) -> None:
    running = rollout(RolloutState.RUNNING, limit)
    if not decide(running, unfinished, NOW):
        assert any(one.state is IN_PROGRESS for one in unfinished)
        due = next_due(running, unfinished, NOW)
        assert due is not None
        assert due > NOW
