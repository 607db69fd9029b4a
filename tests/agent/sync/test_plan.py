"""What is next, from values alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from simulators.signed import Release, assigned, release
from sprat_agent.sync import phases, plan
from sprat_agent.sync.phases import TRANSITIONS, Event, Phase
from sprat_agent.sync.plan import (
    Advance,
    Committed,
    End,
    Execution,
    Forget,
    Hold,
    Over,
    Queue,
    Reason,
    Rest,
    next_action,
    refusal_of_age,
)
from sprat_proto.assignment import ServingTerms
from sprat_proto.states import ExecutionState, ReasonCode, Step
from sprat_proto.trust import custom_of

ONE = release("1.0.0", [b"one"], counter=1)
TWO = release("2.0.0", [b"two"], counter=2)


def run(one: Release, execution: str, phase: Phase, alias: str = "assistant") -> Execution:
    return Execution(execution, one.wanted(execution, alias), 256, phase)


def test_without_an_assignment_there_is_nothing_to_do() -> None:
    assert next_action(None, {}, []) == Rest()


def test_an_assigned_execution_is_first_known_then_carried_out() -> None:
    assignment = assigned(1, [ONE.wanted("e1")])
    assert next_action(assignment, {}, []) == Queue(ONE.wanted("e1"), 256)
    queued = run(ONE, "e1", ExecutionState.QUEUED)
    assert next_action(assignment, {}, [queued]) == Advance(queued)


def test_a_final_execution_is_never_run_again() -> None:
    assignment = assigned(1, [ONE.wanted("e1")])
    for phase in (one for one in TRANSITIONS if phases.is_final(one)):
        assert next_action(assignment, {}, [run(ONE, "e1", phase)]) == Rest()


def test_one_execution_at_a_time_in_order() -> None:
    assignment = assigned(1, [ONE.wanted("e1", "a"), TWO.wanted("e2", "b")])
    first = run(ONE, "e1", Step.SOAKING, "a")
    second = run(TWO, "e2", ExecutionState.QUEUED, "b")
    assert next_action(assignment, {}, [first, second]) == Advance(first)


def test_what_is_superseded_ends_before_anything_else() -> None:
    old = run(ONE, "e1", Step.DOWNLOADING)
    assert next_action(assigned(2, [TWO.wanted("e2")]), {}, [old]) == End(old, Event.SUPERSEDED)


def test_what_is_past_its_last_station_is_carried_to_its_end_though_superseded() -> None:
    for phase in (Step.COMMITTING, Step.ROLLING_BACK):
        old = run(ONE, "e1", phase)
        assert next_action(assigned(2, [TWO.wanted("e2")]), {}, [old]) == Advance(old)


def test_an_execution_whose_content_changed_is_another_one() -> None:
    old = run(ONE, "e1", Step.DOWNLOADING)
    assert next_action(assigned(2, [TWO.wanted("e1")]), {}, [old]) == End(old, Event.SUPERSEDED)


def test_an_alias_that_is_assigned_no_longer_is_forgotten() -> None:
    committed = {"assistant": Committed(ONE.wanted("e1"), 256)}
    done = run(ONE, "e1", ExecutionState.SUCCEEDED)
    assert next_action(assigned(2, []), committed, [done]) == Forget("assistant")
    assert next_action(None, committed, [done]) == Rest()


def test_what_is_committed_already_succeeds_at_once_if_it_is_loaded_the_same_way() -> None:
    committed = {"assistant": Committed(ONE.wanted("e1"), 256)}
    again = run(ONE, "e2", ExecutionState.QUEUED)
    assignment = assigned(2, [ONE.wanted("e2")])
    done = run(ONE, "e1", ExecutionState.SUCCEEDED)
    assert next_action(assignment, committed, [done, again]) == End(again, Event.ALREADY_COMMITTED)
    larger = replace(again, context=512)
    assert next_action(assignment, committed, [done, larger]) == Advance(larger)


def test_what_is_committed_already_is_loaded_anew_to_be_served_otherwise() -> None:
    committed = {"assistant": Committed(ONE.wanted("e1"), 256)}
    done = run(ONE, "e1", ExecutionState.SUCCEEDED)
    pinned = ONE.wanted("e2", terms=ServingTerms(is_pinned=True))
    again = Execution("e2", pinned, 256, ExecutionState.QUEUED)
    assert next_action(assigned(2, [pinned]), committed, [done, again]) == Advance(again)


def test_what_is_held_lets_others_go_first_and_rests_alone() -> None:
    assignment = assigned(1, [ONE.wanted("e1", "a"), TWO.wanted("e2", "b")])
    held = run(ONE, "e1", Step.WAITING_WINDOW, "a")
    free = run(TWO, "e2", ExecutionState.QUEUED, "b")
    wait = Hold(None, Reason(ReasonCode.WAITING_WINDOW, "it waits"))

    def judge(execution: Execution) -> Hold | None:
        return wait if execution.execution_id == "e1" else None

    assert next_action(assignment, {}, [held], judge) == Queue(TWO.wanted("e2", "b"), 256)
    assert next_action(assignment, {}, [held, free], judge) == Advance(free)
    done = replace(free, phase=ExecutionState.SUCCEEDED)
    assert next_action(assignment, {}, [held, done], judge) == Rest()


def test_an_open_window_goes_before_what_only_downloads() -> None:
    assignment = assigned(1, [ONE.wanted("e1", "a"), TWO.wanted("e2", "b")])
    loads = run(ONE, "e1", Step.DOWNLOADING, "a")
    waits = run(TWO, "e2", Step.WAITING_WINDOW, "b")
    assert next_action(assignment, {}, [loads, waits]) == Advance(waits)


def test_what_missed_its_time_fails_with_why_unless_nothing_is_to_be_done() -> None:
    assignment = assigned(1, [ONE.wanted("e1")])
    queued = run(ONE, "e1", ExecutionState.QUEUED)
    late = Reason(ReasonCode.DEADLINE_PASSED, "too late")
    action = next_action(assignment, {}, [queued], lambda _: Over(late))
    assert action == End(queued, Event.FAILED, late)
    committed = {"assistant": Committed(ONE.wanted("e0"), 256)}
    known = [run(ONE, "e0", ExecutionState.SUCCEEDED), queued]
    action = next_action(assignment, committed, known, lambda _: Over(late))
    assert action == End(queued, Event.ALREADY_COMMITTED)


def test_a_release_older_than_any_committed_one_is_refused_unless_it_ran_here() -> None:
    refusal = refusal_of_age(ONE.manifest.name, custom_of(ONE.manifest), 2, was_proved=False)
    assert refusal is not None
    assert refusal.code is ReasonCode.RELEASE_TOO_OLD
    assert (refusal.expected, refusal.found) == ("release counter 2 or higher", "release counter 1")
    assert refusal_of_age(ONE.manifest.name, custom_of(ONE.manifest), 2, was_proved=True) is None
    assert refusal_of_age(TWO.manifest.name, custom_of(TWO.manifest), 2, was_proved=False) is None
    assert refusal_of_age(ONE.manifest.name, custom_of(ONE.manifest), 0, was_proved=False) is None


PHASES = st.sampled_from(list(TRANSITIONS))


@given(
    at=st.lists(PHASES, max_size=4),
    wanted=st.lists(st.booleans(), max_size=4),
    is_committed=st.booleans(),
)
def test_no_plan_begins_what_ended_or_what_nobody_wants(
    at: list[Phase], wanted: list[bool], *, is_committed: bool
) -> None:
    executions = [run(ONE, f"e{number}", phase) for number, phase in enumerate(at)]
    models = [one.wanted for one, is_wanted in zip(executions, wanted, strict=False) if is_wanted][
        :1
    ]
    assignment = assigned(9, models)
    committed = {"assistant": Committed(TWO.wanted("e0"), 256)} if is_committed else {}
    action = next_action(assignment, committed, executions)
    match action:
        case Advance(execution):
            assert not phases.is_final(execution.phase)
            assert execution.wanted in models or not phases.takes(execution.phase, Event.SUPERSEDED)
        case End(execution, event):
            assert phases.takes(execution.phase, event)
        case Queue(one, _):
            assert one.execution_id not in {known.execution_id for known in executions}
        case Forget(alias):
            assert alias not in {one.alias for one in models}
        case Rest():
            assert all(phases.is_final(one.phase) for one in executions)
    assert plan.next_action(assignment, committed, executions) == action
