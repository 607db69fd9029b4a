"""Rollouts that are taken back out of order: what stays on a device is the newer's.

A device never returns to what was taken back, by whatever comes later.
"""

from __future__ import annotations

import pytest
from simulators.both_books import Trial
from sprat_controller.rollout.facts import Abort
from sprat_controller.rollout.phases import RolloutEvent
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    Extent,
    Group,
    Strategy,
)
from sprat_proto.states import ExecutionState, ReasonCode, RolloutState

SUCCEEDED, ROLLED_BACK = ExecutionState.SUCCEEDED, ExecutionState.ROLLED_BACK
FAILED, CANCELED = ExecutionState.FAILED, ExecutionState.CANCELED


def proved(trial: Trial, *to: str) -> str:
    """Roll the next release out to these; they prove it."""
    rollout = trial.create(to=to)
    trial.settle()
    for name in to:
        trial.work(name)
    trial.settle()
    assert set(trial.states(rollout).values()) == {SUCCEEDED}
    return rollout


def given(trial: Trial, *to: str) -> str:
    """Roll the next release out to these; it is under way."""
    rollout = trial.create(to=to)
    trial.settle()
    for name in to:
        trial.hear(name)
    return rollout


def take_back(trial: Trial, rollout: str, *names: str) -> None:
    """Have a person take a rollout back, and its devices go back."""
    trial.person(rollout, RolloutEvent.ROLL_BACK)
    trial.settle()
    for name in names:
        trial.work(name)
    trial.settle()
    assert trial.state(rollout) is RolloutState.ROLLED_BACK


def test_where_a_newer_rollout_is_done_it_stays_and_elsewhere_the_older_goes(trial: Trial) -> None:
    names = ("d0", "d1", "d2")
    for name in names:
        trial.join(name)
    proved(trial, *names)
    older = proved(trial, *names)
    newer = proved(trial, "d1", "d2")
    take_back(trial, older, *names)
    assert [trial.running(name) for name in names] == ["1.0.0", "3.0.0", "3.0.0"]
    assert trial.states(older) == dict.fromkeys(names, ROLLED_BACK)
    assert trial.states(newer) == dict.fromkeys(("d1", "d2"), SUCCEEDED)
    # What is taken back later goes past what was taken back before.
    take_back(trial, newer, *names)
    assert [trial.running(name) for name in names] == ["1.0.0"] * 3


def test_what_was_first_on_a_device_is_gone_past_to_nothing(trial: Trial) -> None:
    trial.join("d0")
    older, newer = proved(trial, "d0"), proved(trial, "d0")
    take_back(trial, older, "d0")
    assert trial.running("d0") == "2.0.0"
    take_back(trial, newer, "d0")
    assert trial.running("d0") is None


@pytest.mark.parametrize("end", [SUCCEEDED, FAILED, ROLLED_BACK])
def test_what_a_newer_rollout_has_under_way_is_let_come_to_its_end(
    trial: Trial, end: ExecutionState
) -> None:
    trial.join("d0")
    proved(trial, "d0")
    older = proved(trial, "d0")
    newer = given(trial, "d0")
    trial.person(older, RolloutEvent.ROLL_BACK)
    trial.settle()
    assert trial.state(older) is RolloutState.ROLLED_BACK
    assert trial.states(newer) == {"d0": ExecutionState.IN_PROGRESS}
    trial.work("d0", end, ReasonCode.PROBE_FAILED)
    trial.work("d0")
    assert trial.states(newer) == {"d0": end}
    # One that fails goes back to what was before what was taken back meanwhile.
    assert trial.running("d0") == ("3.0.0" if end is SUCCEEDED else "1.0.0")


def test_what_is_on_its_way_back_to_what_is_taken_back_goes_further(trial: Trial) -> None:
    trial.join("d0")
    proved(trial, "d0")
    older, newer = proved(trial, "d0"), proved(trial, "d0")
    trial.person(newer, RolloutEvent.ROLL_BACK)
    trial.settle()
    trial.hear("d0")
    trial.person(older, RolloutEvent.ROLL_BACK)
    trial.settle()
    # There is one way back at a time.
    assert trial.states(newer) == {"d0": CANCELED}
    assert trial.states(older) == {"d0": ExecutionState.IN_PROGRESS}
    trial.work("d0")
    trial.settle()
    assert [trial.state(one) for one in (older, newer)] == [RolloutState.ROLLED_BACK] * 2
    assert trial.running("d0") == "1.0.0"
    assert trial.states(older) == {"d0": ROLLED_BACK}


def test_a_group_that_is_taken_back_leaves_the_newer_alone_too(trial: Trial) -> None:
    for name in ("d0", "d1"):
        trial.join(name)
    proved(trial, "d0", "d1")
    older = trial.create(Strategy(groups=(Group(devices=2), Group())), to=("d0", "d1"))
    trial.settle()
    trial.work("d0")  # d1 is under way: the group runs
    newer = proved(trial, "d0")
    back = AbortCriterion(action=AbortAction.ROLLBACK, acts_on=Extent.GROUP)
    trial.carry_out(older, Abort(0, back, 1, 1))
    trial.settle()
    for name in ("d0", "d1"):
        trial.work(name)
    assert [trial.running(name) for name in ("d0", "d1")] == ["3.0.0", "1.0.0"]
    take_back(trial, newer, "d0")
    assert trial.running("d0") == "1.0.0"
