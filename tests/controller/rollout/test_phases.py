from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.cli.rollout import rollout
from sprat_controller.errors import ConflictError
from sprat_controller.rollout.phases import (
    BY_ITSELF,
    EXECUTION,
    GROUP,
    ROLLOUT,
    ExecutionEvent,
    GroupEvent,
    RolloutEvent,
    allowing,
    apply,
)
from sprat_proto.states import ExecutionState, GroupState, RolloutState

FINAL_ROLLOUTS = {
    RolloutState.ROLLED_BACK,
    RolloutState.STOPPED,
    RolloutState.APPROVAL_DENIED,
}
# What a person may have go on once it is over, and nothing else may.
BY_PEOPLE = {RolloutEvent.RETRY, RolloutEvent.ROLL_BACK}
FAILURES = {ExecutionState.FAILED, ExecutionState.ROLLED_BACK, ExecutionState.TIMED_OUT}
TABLES: list[tuple[Any, Any]] = [
    (ROLLOUT, RolloutState.CREATING),
    (GROUP, GroupState.CREATING),
    (EXECUTION, ExecutionState.QUEUED),
]


def reachable(table: Any, start: Any) -> set[Any]:
    seen, waiting = {start}, [start]
    while waiting:
        new = set(table[waiting.pop()].values()) - seen
        seen |= new
        waiting.extend(new)
    return seen


@pytest.mark.parametrize(("table", "start"), TABLES)
def test_every_state_with_a_row_is_reachable_and_every_reachable_state_has_a_row(
    table: Any, start: Any
) -> None:
    assert reachable(table, start) == set(table)


def test_only_a_state_that_nothing_is_in_has_no_row() -> None:
    assert set(RolloutState) == set(ROLLOUT)
    assert set(GroupState) - set(GROUP) == {GroupState.READY}
    assert set(ExecutionState) == set(EXECUTION)


def test_final_executions_go_on_only_by_a_rollback_or_a_person() -> None:
    assert EXECUTION[ExecutionState.SUCCEEDED] == {
        ExecutionEvent.REVERT: ExecutionState.IN_PROGRESS,
        ExecutionEvent.ROLL_BACK: ExecutionState.ROLLED_BACK,
    }
    for state, row in EXECUTION.items():
        if state in FAILURES:
            assert row == {ExecutionEvent.RETRY: ExecutionState.QUEUED}
        elif state is not ExecutionState.SUCCEEDED:
            assert bool(row) is not state.is_final


def test_final_rollouts_have_no_exit_and_all_others_lead_to_an_end() -> None:
    for state, row in ROLLOUT.items():
        assert bool(row) is not (state in FINAL_ROLLOUTS)
        assert reachable(ROLLOUT, state) & FINAL_ROLLOUTS
    assert set(ROLLOUT[RolloutState.FINISHED]) == BY_PEOPLE


def test_a_group_comes_to_an_end_and_never_runs_twice() -> None:
    for state in set(GROUP) - {GroupState.CREATING, GroupState.SCHEDULED, GroupState.RUNNING}:
        assert GroupState.RUNNING not in reachable(GROUP, state)
    for state in GROUP:
        assert reachable(GROUP, state) & {GroupState.FINISHED, GroupState.ROLLED_BACK}


def test_what_is_being_taken_back_only_ends() -> None:
    assert reachable(ROLLOUT, RolloutState.ROLLING_BACK) == {
        RolloutState.ROLLING_BACK,
        RolloutState.ROLLED_BACK,
    }


def test_every_event_happens_somewhere() -> None:
    assert {event for row in ROLLOUT.values() for event in row} == set(RolloutEvent)
    assert {event for row in GROUP.values() for event in row} == set(GroupEvent)
    assert {event for row in EXECUTION.values() for event in row} == set(ExecutionEvent)


def test_a_rollout_that_is_being_stopped_never_runs_again() -> None:
    assert reachable(ROLLOUT, RolloutState.STOPPING) == {
        RolloutState.STOPPING,
        RolloutState.STOPPED,
    }


def test_what_waits_for_approval_starts_only_by_being_approved() -> None:
    row = dict(ROLLOUT[RolloutState.WAITING_FOR_APPROVAL])
    assert row.pop(RolloutEvent.APPROVE) is RolloutState.READY
    assert set(row.values()) == {
        RolloutState.WAITING_FOR_APPROVAL,
        RolloutState.APPROVAL_DENIED,
        RolloutState.STOPPING,
    }


def test_a_queued_execution_succeeds_only_by_being_skipped() -> None:
    ways = {event for event, to in EXECUTION[ExecutionState.QUEUED].items() if to == "SUCCEEDED"}
    assert ways == {ExecutionEvent.SKIP}


@pytest.mark.parametrize("event", [RolloutEvent.STOP, RolloutEvent.START, RolloutEvent.PAUSE])
def test_what_an_operator_may_do_is_what_the_table_says(event: RolloutEvent) -> None:
    expected = {
        RolloutEvent.START: {"READY", "SCHEDULED"},
        RolloutEvent.PAUSE: {"STARTING", "RUNNING"},
        RolloutEvent.STOP: {
            *("WAITING_FOR_APPROVAL", "READY", "SCHEDULED"),
            *("STARTING", "RUNNING", "PAUSED"),
        },
    }
    assert set(allowing(ROLLOUT, event)) == expected[event]


@given(st.sampled_from(list(RolloutState)), st.sampled_from(list(RolloutEvent)))
def test_an_event_either_follows_the_table_or_is_refused_with_what_is_possible(
    state: RolloutState, event: RolloutEvent
) -> None:
    row = ROLLOUT.get(state, {})
    if event in row:
        assert apply(ROLLOUT, state, event, "rollout r", "rollout_state") is row[event]
        return
    with pytest.raises(ConflictError) as caught:
        apply(ROLLOUT, state, event, "rollout r", "rollout_state")
    assert caught.value.code == "rollout_state"
    assert caught.value.details["possible"] == [str(one) for one in row]
    assert f"rollout r is {state}" in caught.value.message


def test_the_refusal_says_state_and_what_is_possible() -> None:
    with pytest.raises(ConflictError) as caught:
        apply(ROLLOUT, RolloutState.STOPPED, RolloutEvent.PAUSE, "rollout 7", "rollout_state")
    assert caught.value.message == (
        "rollout 7 is STOPPED: expected one of STARTING, RUNNING to pause it; now possible: nothing"
    )


def test_what_a_refusal_offers_are_verbs_as_people_type_them() -> None:
    verbs = {str(one.name) for one in rollout.registered_commands}
    assert {str(one) for one in set(RolloutEvent) - BY_ITSELF} <= verbs
    assert not {str(one) for one in BY_ITSELF} & verbs
    with pytest.raises(ConflictError) as caught:
        apply(ROLLOUT, RolloutState.FINISHED, RolloutEvent.PAUSE, "rollout 7", "rollout_state")
    assert caught.value.message.endswith("now possible: retry-failed, roll-back")
