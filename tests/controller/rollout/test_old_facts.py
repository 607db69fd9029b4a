"""What was decided on older facts, carried out late: one small story for each promise.

The random machine (`test_planner_machine`) finds what nobody thought of, in some runs; these find
what is known, in every run. Each is told to the reference book and to that of the database.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest
from simulators.both_books import Trial
from sprat_controller.rollout.facts import (
    Abort,
    Assign,
    Cancel,
    EndRollback,
    Excuse,
    FailGate,
    FinishGroup,
    FinishRollout,
    Revert,
    TimeOut,
)
from sprat_controller.rollout.phases import RolloutEvent
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Extent,
    Group,
    Pace,
    Retries,
    Strategy,
)
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState

QUEUED, IN_PROGRESS = ExecutionState.QUEUED, ExecutionState.IN_PROGRESS
SUCCEEDED, FAILED = ExecutionState.SUCCEEDED, ExecutionState.FAILED
CANCELED = ExecutionState.CANCELED
ONE_DOWN: Final = Strategy(budgets=(DisruptionBudget("site", max_unavailable=1),))


def a_fleet(trial: Trial, count: int, site: str = "lyon") -> list[str]:
    names = [f"d{number}" for number in range(count)]
    for name in names:
        trial.join(name, site)
    return names


def running(trial: Trial, strategy: Strategy, *to: str) -> str:
    """Start a rollout whose first group runs, and in which nobody was given work yet."""
    rollout = trial.create(strategy, to=to)
    for _ in range(5):
        decisions = trial.decide(rollout)
        if isinstance(decisions[0], Assign):
            return rollout
        trial.carry_out(rollout, *decisions)
    raise AssertionError("it assigns nothing")


def assign(trial: Trial, rollout: str) -> Assign:
    """Return the start that is decided now."""
    (decision,) = trial.decide(rollout)
    assert isinstance(decision, Assign)
    return decision


def under_way(trial: Trial, rollout: str) -> list[str]:
    states = trial.states(rollout)
    return sorted(device for device, state in states.items() if state is IN_PROGRESS)


# Budgets and pace


def test_what_another_rollout_started_since_takes_the_slot_of_the_budget(trial: Trial) -> None:
    a_fleet(trial, 2)
    one, other = running(trial, ONE_DOWN, "d0"), running(trial, ONE_DOWN, "d1")
    old = assign(trial, one)
    trial.carry_out(other, assign(trial, other))
    trial.carry_out(one, old)
    assert (under_way(trial, one), under_way(trial, other)) == ([], ["d1"])
    trial.work("d1")
    trial.carry_out(one, old)  # the slot is free: what was decided holds again
    assert under_way(trial, one) == ["d0"]


def test_a_device_that_fell_silent_since_after_a_failure_keeps_its_slot(trial: Trial) -> None:
    a_fleet(trial, 2)
    one, other = running(trial, ONE_DOWN, "d0"), running(trial, ONE_DOWN, "d1")
    trial.carry_out(other, assign(trial, other))
    trial.work("d1", FAILED, ReasonCode.DIGEST_MISMATCH)
    old = assign(trial, one)
    trial.lose("d1")
    trial.carry_out(one, old)
    assert under_way(trial, one) == []


def test_one_decision_that_names_more_than_the_budget_starts_no_more(trial: Trial) -> None:
    names = a_fleet(trial, 3)
    rollout = running(trial, ONE_DOWN)
    trial.carry_out(rollout, Assign(tuple(trial.run_of(rollout, name) for name in names)))
    assert len(under_way(trial, rollout)) == 1


@pytest.mark.parametrize("pace", [Pace(max_in_progress=2), Pace(starts_per_minute=2)])
def test_what_was_decided_before_others_started_keeps_to_the_pace(trial: Trial, pace: Pace) -> None:
    names = a_fleet(trial, 4)
    rollout = running(trial, Strategy(pace=pace))
    old = assign(trial, rollout)
    started = [name for name in names if trial.run_of(rollout, name) in old.executions]
    rest = tuple(trial.run_of(rollout, name) for name in names if name not in started)
    trial.carry_out(rollout, Assign(rest), old)
    assert len(under_way(trial, rollout)) == 2
    assert not set(under_way(trial, rollout)) & set(started)


# What stops a rollout


@pytest.mark.parametrize("action", list(AbortAction))
@pytest.mark.parametrize("acts_on", list(Extent))
def test_nothing_starts_after_an_abort(trial: Trial, action: AbortAction, acts_on: Extent) -> None:
    a_fleet(trial, 3)
    rollout = running(trial, Strategy())
    old = assign(trial, rollout)
    trial.carry_out(rollout, Abort(0, AbortCriterion(action=action, acts_on=acts_on), 1, 1), old)
    assert trial.starts(rollout) == Counter()
    trial.settle()
    trial.carry_out(rollout, old)
    assert trial.starts(rollout) == Counter()


@pytest.mark.parametrize("action", [AbortAction.CANCEL, AbortAction.ROLLBACK])
def test_nothing_starts_in_a_group_that_was_given_up_though_the_rollout_goes_on(
    trial: Trial, action: AbortAction
) -> None:
    a_fleet(trial, 3)
    rollout = running(trial, Strategy(groups=(Group(devices=2), Group())))
    old = assign(trial, rollout)
    abort = Abort(0, AbortCriterion(action=action, acts_on=Extent.GROUP), 1, 1)
    trial.carry_out(rollout, abort)
    # Before what is left in the group was canceled.
    trial.person(rollout, RolloutEvent.RESUME)
    trial.carry_out(rollout, old)
    assert trial.groups(rollout)[0] is GroupState.ERROR
    assert trial.starts(rollout) == Counter()


def test_nothing_starts_in_a_group_whose_turn_has_not_come(trial: Trial) -> None:
    names = a_fleet(trial, 3)
    rollout = running(trial, Strategy(groups=(Group(devices=1), Group())))
    trial.carry_out(rollout, Assign(tuple(trial.run_of(rollout, name) for name in names)))
    assert len(under_way(trial, rollout)) == 1


@pytest.mark.parametrize("event", [RolloutEvent.PAUSE, RolloutEvent.STOP, RolloutEvent.ROLL_BACK])
def test_nothing_starts_after_a_person_said_so(trial: Trial, event: RolloutEvent) -> None:
    a_fleet(trial, 2)
    rollout = running(trial, Strategy())
    old = assign(trial, rollout)
    trial.person(rollout, event)
    trial.carry_out(rollout, old)
    assert trial.starts(rollout) == Counter()
    if event is RolloutEvent.PAUSE:
        trial.person(rollout, RolloutEvent.RESUME)
        trial.carry_out(rollout, old)
        assert trial.starts(rollout) == Counter(["d0", "d1"])


def test_nothing_starts_after_a_gate_failed(trial: Trial) -> None:
    a_fleet(trial, 2)
    rollout = running(trial, Strategy())
    old = assign(trial, rollout)
    trial.carry_out(rollout, FailGate(0), old)
    assert trial.state(rollout) is RolloutState.PAUSED
    assert trial.starts(rollout) == Counter()


# One release at a time


def test_of_two_rollouts_on_a_device_only_the_newer_is_under_way(trial: Trial) -> None:
    a_fleet(trial, 1)
    older = running(trial, Strategy())
    trial.carry_out(older, assign(trial, older))
    trial.hear("d0")
    newer = running(trial, Strategy())
    trial.carry_out(newer, assign(trial, newer))
    assert trial.states(older) == {"d0": CANCELED}
    assert trial.states(newer) == {"d0": IN_PROGRESS}
    trial.work("d0")
    assert trial.running("d0") == "2.0.0"


@pytest.mark.parametrize("is_done", [False, True])
def test_an_older_rollout_takes_no_device_from_a_newer_one_that_came_between(
    trial: Trial,
    is_done: bool,  # noqa: FBT001 - parametrized
) -> None:
    a_fleet(trial, 1)
    older = running(trial, Strategy())
    old = assign(trial, older)
    newer = running(trial, Strategy())
    trial.carry_out(newer, assign(trial, newer))
    if is_done:
        trial.work("d0")
    trial.carry_out(older, old)
    assert trial.starts(older) == Counter()
    assert trial.states(older) == {"d0": CANCELED}
    trial.work("d0")
    assert trial.running("d0") == "2.0.0"
    assert trial.states(newer) == {"d0": SUCCEEDED}


@pytest.mark.parametrize("is_done", [False, True])
def test_what_a_person_tries_again_takes_no_device_from_a_newer_rollout(
    trial: Trial,
    is_done: bool,  # noqa: FBT001 - parametrized
) -> None:
    a_fleet(trial, 1)
    older = running(trial, Strategy())
    trial.carry_out(older, assign(trial, older))
    trial.work("d0", FAILED, ReasonCode.DIGEST_MISMATCH)
    newer = running(trial, Strategy())
    trial.carry_out(newer, assign(trial, newer))
    if is_done:
        trial.work("d0")
    trial.retry_failed(older)
    trial.carry_out(older, Assign((trial.run_of(older, "d0"),)))
    assert trial.states(older) == {"d0": CANCELED}
    assert trial.states(newer) == {"d0": SUCCEEDED if is_done else IN_PROGRESS}
    trial.work("d0")
    assert trial.running("d0") == "2.0.0"


def test_a_lower_priority_waits_for_what_began_since(trial: Trial) -> None:
    a_fleet(trial, 1)
    urgent = running(trial, Strategy(priority=1))
    normal = running(trial, Strategy())
    old = assign(trial, normal)
    trial.carry_out(urgent, assign(trial, urgent))
    trial.carry_out(normal, old)
    assert (trial.states(urgent), trial.states(normal)) == ({"d0": IN_PROGRESS}, {"d0": QUEUED})
    trial.work("d0")
    trial.carry_out(normal, old)
    trial.work("d0")
    assert trial.running("d0") == "2.0.0"


# What is proved stays


def test_what_a_device_proved_is_not_taken_back_by_a_rollout_that_goes_on(trial: Trial) -> None:
    a_fleet(trial, 1)
    rollout = running(trial, Strategy())
    trial.carry_out(rollout, assign(trial, rollout))
    trial.work("d0")
    run = (trial.run_of(rollout, "d0"),)
    back = AbortCriterion(action=AbortAction.ROLLBACK)
    for decision in (Revert(run), Cancel(run), TimeOut(run), Excuse(run)):
        trial.carry_out(rollout, decision)
    assert trial.states(rollout) == {"d0": SUCCEEDED}
    trial.carry_out(rollout, FinishRollout(), Abort(0, back, 1, 1), Revert(run))
    assert trial.state(rollout) is RolloutState.FINISHED
    assert trial.states(rollout) == {"d0": SUCCEEDED}
    trial.work("d0")
    assert trial.running("d0") == "1.0.0"


def test_a_success_that_comes_before_the_deadline_is_carried_out_counts(trial: Trial) -> None:
    a_fleet(trial, 1)
    rollout = running(trial, Strategy(deadlines=Deadlines(execution_s=600, offline_grace_s=0)))
    trial.carry_out(rollout, assign(trial, rollout))
    trial.wait(600)
    (late,) = trial.decide(rollout)
    assert isinstance(late, TimeOut)
    trial.work("d0")
    trial.carry_out(rollout, late)
    assert trial.states(rollout) == {"d0": SUCCEEDED}
    trial.work("d0")
    assert trial.running("d0") == "1.0.0"


def test_what_was_overdue_is_not_ended_once_it_was_begun_anew(trial: Trial) -> None:
    a_fleet(trial, 1)
    strategy = Strategy(
        deadlines=Deadlines(execution_s=600, offline_grace_s=0),
        retries=Retries(attempts=1, base_s=60, ceiling_s=60),
    )
    rollout = running(trial, strategy)
    trial.carry_out(rollout, assign(trial, rollout))
    trial.wait(600)
    (late,) = trial.decide(rollout)
    assert isinstance(late, TimeOut)
    trial.work("d0", FAILED, ReasonCode.DOWNLOAD_FAILED)
    trial.wait(60)
    trial.carry_out(rollout, late, assign(trial, rollout), late)
    assert trial.states(rollout) == {"d0": IN_PROGRESS}


def test_a_group_that_was_given_up_is_not_taken_back_by_an_older_abort(trial: Trial) -> None:
    a_fleet(trial, 2)
    rollout = running(trial, Strategy())
    trial.carry_out(rollout, assign(trial, rollout))
    trial.work("d0")
    for action in (AbortAction.CANCEL, AbortAction.ROLLBACK):
        criterion = AbortCriterion(action=action, acts_on=Extent.GROUP)
        trial.carry_out(rollout, Abort(0, criterion, 1, 2))
    trial.settle()
    assert trial.states(rollout) == {"d0": SUCCEEDED, "d1": CANCELED}


def test_a_success_that_comes_before_a_stop_is_carried_out_counts(trial: Trial) -> None:
    a_fleet(trial, 1)
    rollout = running(trial, Strategy())
    trial.carry_out(rollout, assign(trial, rollout))
    trial.person(rollout, RolloutEvent.STOP)
    (cancel,) = trial.decide(rollout)
    assert isinstance(cancel, Cancel)
    trial.work("d0")
    trial.carry_out(rollout, cancel)
    trial.settle()
    assert trial.state(rollout) is RolloutState.STOPPED
    assert trial.states(rollout) == {"d0": SUCCEEDED}
    trial.work("d0")
    assert trial.running("d0") == "1.0.0"


# Nothing twice


@pytest.mark.parametrize("end", [None, SUCCEEDED, FAILED, ExecutionState.ROLLED_BACK])
def test_what_started_is_not_started_again(trial: Trial, end: ExecutionState | None) -> None:
    a_fleet(trial, 1)
    rollout = running(trial, Strategy())
    old = assign(trial, rollout)
    trial.carry_out(rollout, old)
    if end is not None:
        trial.work("d0", end, ReasonCode.PROBE_FAILED)
    trial.carry_out(rollout, old, old)
    assert trial.starts(rollout) == Counter({"d0": 1})
    assert trial.states(rollout) == {"d0": end or IN_PROGRESS}


def test_what_waits_for_its_next_try_is_not_started_before_its_time(trial: Trial) -> None:
    a_fleet(trial, 1)
    retries = Retries(attempts=1, base_s=3_600, ceiling_s=3_600)
    rollout = running(trial, Strategy(retries=retries))
    old = assign(trial, rollout)
    trial.carry_out(rollout, old)
    trial.work("d0", FAILED, ReasonCode.DOWNLOAD_FAILED)
    trial.carry_out(rollout, old)
    assert trial.starts(rollout) == Counter({"d0": 1})
    trial.wait(3_600)
    trial.carry_out(rollout, old)
    assert trial.starts(rollout) == Counter({"d0": 2})


def test_a_rollout_does_not_end_while_something_is_to_be_done_again(trial: Trial) -> None:
    a_fleet(trial, 2)
    rollout = running(trial, Strategy())
    trial.carry_out(rollout, assign(trial, rollout))
    trial.work("d0")
    trial.carry_out(rollout, FinishRollout(), FinishGroup(0))
    assert trial.state(rollout) is RolloutState.RUNNING
    trial.person(rollout, RolloutEvent.ROLL_BACK)
    trial.carry_out(rollout, EndRollback())
    assert trial.state(rollout) is RolloutState.ROLLING_BACK
