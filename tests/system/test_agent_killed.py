"""kill -9 of the agent at each phase of an execution, then a restart.

One rollout, one device per (phase, moment): each device's agent kills itself there, is started
again, and the tests below look at what each one did.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from processes import Agent, wait_for
from simulators.fleet import Fleet, ask

KILLED_AGENT = Path(__file__).with_name("killed_agent.py")
PHASES = [
    "DOWNLOADING",
    "DOWNLOADED",
    "VERIFYING",
    "WAITING_WINDOW",
    "INSTALLING",
    "PROBING",
    "ACTIVATING",
    "SOAKING",
    "COMMITTING",
]
POINTS = [*itertools.product(PHASES, ["entered", "done"])]
ROLLBACK_POINTS = [*itertools.product(["ROLLING_BACK"], ["entered", "done"])]


@dataclass
class Lives:
    """What was seen of the devices after their restarts."""

    fleet: Fleet
    executions: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    answers: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


def device_of(phase: str, moment: str) -> str:
    return f"{phase.lower().replace('_', '-')}-{moment}"


@pytest.fixture(scope="module")
def lives(fleet: Fleet) -> Lives:
    good = [device_of(*point) for point in POINTS]
    bad = [device_of(*point) for point in ROLLBACK_POINTS]
    fleet.push("3.0.0", "This one cannot pass.", golden="something that it never says")
    for device in good + bad:
        fleet.agent(device)
    fleet.wait_online(good + bad)
    first = fleet.roll_out("1.0.0", good + bad)
    assert set(first.values()) == {"SUCCEEDED"}, first
    for (phase, moment), device in zip(POINTS + ROLLBACK_POINTS, good + bad, strict=True):
        arm(fleet.agents[device], phase, moment)
    second = fleet.start_rollout("2.0.0", good)
    third = fleet.start_rollout("3.0.0", bad)
    for device in good + bad:
        assert fleet.agents[device].wait_end(timeout_s=150) == -signal.SIGKILL, device
    seen = Lives(fleet)
    for device in good + bad:
        disarm(fleet.agents[device])
    for device in good + bad:
        fleet.agents[device].wait_ready()
        fleet.agents[device].url = str(fleet.agents[device].wait_ready()["http"])
        seen.answers[device] = []
    watch(seen, good + bad, second, third)
    return seen


def watch(seen: Lives, devices: list[str], *rollouts: str) -> None:
    """Ask every device again and again until the rollouts have ended."""

    def all_ended() -> bool:
        for device in devices:
            seen.answers[device].append(ask(seen.fleet.agents[device])[1])
        seen.executions = {
            device: execution
            for rollout in rollouts
            for device, execution in seen.fleet.executions(rollout).items()
        }
        return all(e["finished_at"] for e in seen.executions.values())

    wait_for("all executions to end", all_ended, timeout_s=170)
    for device in devices:
        seen.answers[device].append(ask(seen.fleet.agents[device])[1])


def arm(agent: Agent, phase: str, moment: str) -> None:
    """Restart the agent as one that kills itself."""
    agent.terminate()
    agent.command = [sys.executable, str(KILLED_AGENT), phase, moment, *agent.command[1:]]
    agent.start()


def disarm(agent: Agent) -> None:
    """Restart the agent as it is shipped."""
    agent.command = [str(Path(sys.executable).parent / "sprat-agent"), *agent.command[4:]]
    agent.spawn()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("phase", "moment"), POINTS)
def test_an_agent_killed_at_any_phase_converges(lives: Lives, phase: str, moment: str) -> None:
    execution = lives.executions[device_of(phase, moment)]
    assert execution["state"] == "SUCCEEDED", execution
    assert lives.answers[device_of(phase, moment)][-1] == lives.fleet.digests["2.0.0"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("phase", "moment"), ROLLBACK_POINTS)
def test_an_agent_killed_while_rolling_back_rolls_back(
    lives: Lives, phase: str, moment: str
) -> None:
    execution = lives.executions[device_of(phase, moment)]
    assert execution["state"] == "ROLLED_BACK", execution
    assert execution["reason"]["code"] == "PROBE_FAILED"
    assert set(lives.answers[device_of(phase, moment)]) == {lives.fleet.digests["1.0.0"]}


@pytest.mark.parametrize(("phase", "moment"), POINTS)
def test_the_previous_model_answers_until_the_new_one_is_committed(
    lives: Lives, phase: str, moment: str
) -> None:
    answers = lives.answers[device_of(phase, moment)]
    first, second = lives.fleet.digests["1.0.0"], lives.fleet.digests["2.0.0"]
    switches = [digest for digest, _ in itertools.groupby(answers)]
    assert switches in ([first, second], [second])
    if (phase, moment) in POINTS[: POINTS.index(("SOAKING", "entered"))]:
        # Killed well before the commit, and the new one still has a second to soak.
        assert switches == [first, second]


@pytest.mark.parametrize(("phase", "moment"), POINTS + ROLLBACK_POINTS)
def test_no_phase_runs_twice(lives: Lives, phase: str, moment: str) -> None:
    device = device_of(phase, moment)
    execution = lives.executions[device]["id"]
    entered: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for record in lives.fleet.device_audit(device):
        if record["subject"] != f"execution/{execution}":
            continue
        if record["tag"] == "agent:execution:entered":
            entered[record["detail"]["phase"]] += 1
            if "after" in record["detail"]:
                left[record["detail"]["after"]] += 1
    assert set(entered.values()) == {1}, entered
    assert set(left.values()) <= {1}, left
    assert phase in entered


@pytest.mark.parametrize(("phase", "moment"), POINTS + ROLLBACK_POINTS)
def test_nothing_half_written_remains(lives: Lives, phase: str, moment: str) -> None:
    state = lives.fleet.agents[device_of(phase, moment)].state
    assert not [path for path in (state / "partial").glob("*") if path.is_file()]
