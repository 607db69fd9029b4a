"""An emergency: windows, budgets and pace do not count; groups, gates and aborts still do."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec
import pytest
from simulators.both_books import Trial
from simulators.controlled import SimDevice, World
from sprat_agent.sync import holds
from sprat_agent.sync.freshness import Time
from sprat_agent.sync.phases import Phase
from sprat_agent.sync.plan import Execution, Hold
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    DisruptionBudget,
    Gate,
    Group,
    Pace,
    Strategy,
    WindowSpec,
)
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step
from sprat_proto.v1 import link_pb2

NIGHT: Final = WindowSpec("0 3 * * *", 3600)  # a world begins at noon
LIMITED: Final = Strategy(
    groups=(Group(devices=4), Group()),
    pace=Pace(max_in_progress=2, starts_per_minute=2),
    budgets=(DisruptionBudget("site", max_unavailable=1),),
    download_window=NIGHT,
    activate_window=NIGHT,
)
URGENT: Final = msgspec.structs.replace(LIMITED, override="the model leaks secrets")
AT_SITE: Final = ("d0", "d1", "d2", "d3", "d4", "d5")


def under_way(trial: Trial, rollout: str) -> int:
    return list(trial.states(rollout).values()).count(ExecutionState.IN_PROGRESS)


def join(trial: Trial) -> None:
    for name in AT_SITE:
        trial.join(name, "lyon")


@pytest.mark.parametrize(("strategy", "starts"), [(LIMITED, 1), (URGENT, 4)])
def test_only_an_override_starts_a_whole_group_at_once(
    trial: Trial, strategy: Strategy, starts: int
) -> None:
    join(trial)
    rollout = trial.create(strategy)
    trial.settle()
    assert under_way(trial, rollout) == starts
    # The next group waits for the first either way.
    assert trial.groups(rollout) == [GroupState.RUNNING, GroupState.SCHEDULED]


@pytest.mark.parametrize(("strategy", "starts"), [(LIMITED, 0), (URGENT, 4)])
def test_only_an_override_starts_over_a_budget_that_others_used_up(
    trial: Trial, strategy: Strategy, starts: int
) -> None:
    join(trial)
    trial.join("d6", "lyon")
    trial.create(to=("d6",))
    trial.settle()
    rollout = trial.create(strategy, to=AT_SITE)
    trial.settle()
    assert under_way(trial, rollout) == starts


def test_an_override_goes_on_group_by_group(trial: Trial) -> None:
    join(trial)
    rollout = trial.create(URGENT)
    trial.settle()
    first = [name for name in AT_SITE if trial.starts(rollout)[name]]
    for name in first[:3]:
        trial.work(name)
    trial.settle()
    assert trial.groups(rollout)[1] is GroupState.SCHEDULED
    trial.work(first[3])
    trial.settle()
    assert trial.groups(rollout) == [GroupState.FINISHED, GroupState.RUNNING]
    assert under_way(trial, rollout) == 2


def test_an_abort_holds_an_override_too(trial: Trial) -> None:
    join(trial)
    stops = AbortCriterion(percent=50, action=AbortAction.CANCEL)
    rollout = trial.create(msgspec.structs.replace(URGENT, abort=(stops,)))
    trial.settle()
    old = [name for name in AT_SITE if trial.starts(rollout)[name]]
    trial.work(old[0], ExecutionState.ROLLED_BACK, ReasonCode.PROBE_FAILED)
    trial.settle()
    assert trial.state(rollout) is RolloutState.STOPPED
    ends = list(trial.states(rollout).values())
    assert ends.count(ExecutionState.CANCELED) == 5
    assert sum(trial.starts(rollout).values()) == 4


def test_a_gate_holds_an_override_too(world: World) -> None:
    devices = {name: world.join(name, site="lyon") for name in AT_SITE[:2]}
    gate = Gate(
        min_decode=None, max_ttft_p95=None, max_memory=None, max_more_errors=None, min_devices=1
    )
    groups = (Group(devices=1, gate=gate), Group())
    view = world.create(strategy=msgspec.structs.replace(URGENT, groups=groups))
    world.run_due()
    states = world.states(view.id)
    (canary,) = (one for one in devices if states[one] is ExecutionState.IN_PROGRESS)
    devices[canary].sync()
    beat = devices[canary].a_heartbeat()
    for one in beat.running:
        told = link_pb2.ModelMetrics(alias=one.alias, digest=one.digest, window_s=60, crashes=3)
        beat.metrics.append(told)
    devices[canary].say(heartbeat=beat)
    world.run_due()
    assert world.state(view.id) == RolloutState.PAUSED
    assert list(world.states(view.id).values()).count(ExecutionState.QUEUED) == 1


@pytest.mark.parametrize(
    ("phase", "strategy", "is_held"),
    [
        (ExecutionState.QUEUED, LIMITED, True),
        (Step.WAITING_WINDOW, LIMITED, True),
        (ExecutionState.QUEUED, URGENT, False),
        (Step.WAITING_WINDOW, URGENT, False),
    ],
)
def test_only_an_override_is_told_to_devices_without_windows(
    world: World, phase: Phase, strategy: Strategy, *, is_held: bool
) -> None:
    """What a device is told is signed; its own rule says whether it may go on now."""
    device = world.join("d0", site="lyon")
    world.create(strategy=strategy)
    world.run_due()
    device.heartbeat()
    held = holds.judge(
        executing(device, phase), Time(world.now, world.now), was_proved=False, is_through=False
    )
    if is_held:
        assert isinstance(held, Hold)
        assert held.reason.code == ReasonCode.WAITING_WINDOW
        assert held.until == world.now.replace(hour=3) + timedelta(days=1)
    else:
        assert held is None


def executing(device: SimDevice, phase: Phase) -> Execution:
    """Return what an agent in this phase would have of the device's one execution."""
    (wanted,) = device.under_way()
    return Execution(wanted.execution_id, wanted, 256, phase)
