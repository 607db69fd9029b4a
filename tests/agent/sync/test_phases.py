"""What must never and what must always be possible in the execution's table."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.sync import phases
from sprat_agent.sync.phases import TRANSITIONS, Event, Phase
from sprat_proto.states import ExecutionState, Step

PROVED = {Event.DONE, Event.FAILED, Event.REJECTED, Event.SUPERSEDED}


def reachable(
    start: Phase,
    *,
    without: frozenset[Phase] = frozenset(),
    events: set[Event] = PROVED,
    table: Mapping[Phase, Mapping[Event, Phase]] = TRANSITIONS,
) -> set[Phase]:
    """Return the phases that can follow `start`, `start` among them."""
    seen: set[Phase] = set()
    waiting = [start]
    while waiting:
        phase = waiting.pop()
        if phase in seen or phase in without:
            continue
        seen.add(phase)
        waiting += [to for event, to in table[phase].items() if event in events]
    return seen


def test_every_step_and_only_what_a_device_decides_is_a_phase() -> None:
    states = {
        ExecutionState.QUEUED,
        ExecutionState.SUCCEEDED,
        ExecutionState.FAILED,
        ExecutionState.REJECTED,
        ExecutionState.CANCELED,
        ExecutionState.ROLLED_BACK,
    }
    assert set(TRANSITIONS) == set(Step) | states


@pytest.mark.parametrize("gate", [Step.VERIFYING, Step.PROBING, Step.SOAKING, Step.COMMITTING])
def test_success_leads_through_every_proof(gate: Phase) -> None:
    without = reachable(ExecutionState.QUEUED, without=frozenset({gate}))
    assert ExecutionState.SUCCEEDED not in without


def test_nothing_that_is_committed_rolls_back() -> None:
    assert reachable(ExecutionState.SUCCEEDED) == {ExecutionState.SUCCEEDED}


def test_only_a_completed_commit_is_a_success() -> None:
    before = {(phase, event) for phase in TRANSITIONS for event, to in TRANSITIONS[phase].items()
              if to is ExecutionState.SUCCEEDED}  # fmt: skip
    assert before == {
        (Step.COMMITTING, Event.DONE),
        (ExecutionState.QUEUED, Event.ALREADY_COMMITTED),
    }


def test_every_phase_that_is_not_final_can_go_on_and_every_final_state_can_be_reached() -> None:
    finals = {phase for phase in TRANSITIONS if phases.is_final(phase)}
    assert finals == {phase for phase in TRANSITIONS if
                      isinstance(phase, ExecutionState) and phase.is_final}  # fmt: skip
    for phase in TRANSITIONS:
        assert reachable(phase) & finals, phase
    assert finals <= reachable(ExecutionState.QUEUED)
    assert set(TRANSITIONS) == reachable(ExecutionState.QUEUED)


def test_what_was_loaded_is_rolled_back_and_what_was_not_just_fails() -> None:
    loaded = {Step.PROBING, Step.ACTIVATING, Step.SOAKING, Step.COMMITTING}
    for phase, row in TRANSITIONS.items():
        if Event.FAILED in row:
            expected = Step.ROLLING_BACK if phase in loaded else ExecutionState.FAILED
            assert row[Event.FAILED] is expected, phase


def test_only_what_was_not_loaded_yet_is_rejected() -> None:
    rows = {phase: row[Event.REJECTED] for phase, row in TRANSITIONS.items()
            if Event.REJECTED in row}  # fmt: skip
    assert rows == dict.fromkeys((Step.DOWNLOADING, Step.INSTALLING), ExecutionState.REJECTED)


def test_everything_before_the_commit_can_be_superseded_and_nothing_after() -> None:
    past = reachable(Step.COMMITTING) | {one for one in TRANSITIONS if phases.is_final(one)}
    for phase in TRANSITIONS:
        assert phases.takes(phase, Event.SUPERSEDED) == (phase not in past), phase


def test_no_phase_is_ever_entered_a_second_time() -> None:
    for phase, row in TRANSITIONS.items():
        for following in row.values():
            assert phase not in reachable(following), phase


@given(st.lists(st.sampled_from(list(Event)), max_size=20))
def test_any_run_of_events_ends_in_a_final_state_or_is_refused(events: list[Event]) -> None:
    phase: Phase = ExecutionState.QUEUED
    for event in events:
        if phases.takes(phase, event):
            phase = phases.after(phase, event)
        else:
            with pytest.raises(ValueError, match="cannot take"):
                phases.after(phase, event)
    assert phases.phase_named(str(phase)) is phase
    state, step = phases.state_of(phase)
    assert (state is ExecutionState.IN_PROGRESS) == (step is not None)


def test_a_state_that_only_the_controller_knows_is_not_a_phase() -> None:
    with pytest.raises(ValueError, match="TIMED_OUT is not a phase"):
        phases.phase_named("TIMED_OUT")
