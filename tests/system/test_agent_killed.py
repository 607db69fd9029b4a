"""kill -9 of the agent at each phase of an execution, then a restart.

One device per (phase, moment): its agent kills itself there, is started again, and is asked all the
time until the rollout has ended. The tests below look at what each one did.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from processes import Agent, wait_for
from simulators.fleet import Fleet, ask

ASK_EVERY_S = 0.3
AT_ONCE = 6  # devices; more of them starve each other on two cores
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
    fleet.push("3.0.0", "This one cannot pass.", golden="something that it never says")
    seen = Lives(fleet)
    for begin in range(0, len(POINTS), AT_ONCE):
        kill_and_watch(seen, "2.0.0", POINTS[begin : begin + AT_ONCE])
    kill_and_watch(seen, "3.0.0", ROLLBACK_POINTS)
    return seen


def kill_and_watch(seen: Lives, release: str, points: list[tuple[str, str]]) -> None:
    """Roll a release out to one device a point, each of which is killed there and goes on."""
    fleet = seen.fleet
    devices = [device_of(*point) for point in points]
    with ThreadPoolExecutor(len(devices)) as pool:
        list(pool.map(fleet.agent, devices))
    fleet.wait_online(devices)
    before = fleet.roll_out("1.0.0", devices)
    assert set(before.values()) == {"SUCCEEDED"}, before
    with ThreadPoolExecutor(len(devices)) as pool:
        list(pool.map(partial(arm, fleet), points))
    rollout = fleet.start_rollout(release, devices)
    over = threading.Event()
    with ThreadPoolExecutor(len(devices)) as pool:
        lived = [pool.submit(live_on, fleet.agents[device], over) for device in devices]
        try:
            seen.executions |= fleet.wait_finished(rollout)
        finally:
            over.set()
        for device, one in zip(devices, lived, strict=True):
            seen.answers[device] = one.result()
    for device in devices:
        wait_for(f"the audit of {device}", lambda name=device: audit_is_complete(seen, name))
        fleet.agents[device].terminate()


def audit_is_complete(seen: Lives, device: str) -> bool:
    """The controller has the record of the execution's end."""
    state = seen.executions[device]["state"]
    return state in phases_entered(seen, device)


def phases_entered(seen: Lives, device: str) -> Counter[str]:
    """How often the device entered each phase of the execution, by its audit."""
    subject = f"execution/{seen.executions[device]['id']}"
    return Counter(
        str(record["detail"]["phase"])
        for record in seen.fleet.device_audit(device)
        if record["subject"] == subject and record["tag"] == "agent:execution:entered"
    )


def live_on(agent: Agent, over: threading.Event) -> list[str]:
    """See the agent die, start it as it is shipped, and ask it again and again until the end."""
    assert agent.wait_end(timeout_s=200) == -signal.SIGKILL, agent.log_tail()
    disarm(agent)
    agent.url = str(agent.wait_ready()["http"])
    answers: list[str] = []
    while not over.is_set():
        answers.append(ask(agent)[1])
        over.wait(ASK_EVERY_S)
    answers.append(ask(agent)[1])
    return answers


def arm(fleet: Fleet, point: tuple[str, str]) -> None:
    """Restart the agent of a point as one that kills itself there."""
    agent = fleet.agents[device_of(*point)]
    agent.terminate()
    agent.command = [sys.executable, str(KILLED_AGENT), *point, *agent.command[1:]]
    agent.start()


def disarm(agent: Agent) -> None:
    """Restart the agent as it is shipped."""
    agent.command = [str(Path(sys.executable).parent / "sprat-agent"), *agent.command[4:]]
    agent.spawn()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("phase", "moment"), POINTS)
def test_an_agent_killed_at_any_phase_converges(lives: Lives, phase: str, moment: str) -> None:
    execution = lives.executions[device_of(phase, moment)]
    assert execution["state"] == "SUCCEEDED", execution
    assert lives.answers[device_of(phase, moment)][-1] == lives.fleet.digests["2.0.0"]


@pytest.mark.timeout(900)
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
    entered = phases_entered(lives, device_of(phase, moment))
    assert set(entered.values()) == {1}, entered
    assert phase in entered


@pytest.mark.parametrize(("phase", "moment"), POINTS + ROLLBACK_POINTS)
def test_nothing_half_written_remains(lives: Lives, phase: str, moment: str) -> None:
    state = lives.fleet.agents[device_of(phase, moment)].state
    assert not [path for path in (state / "partial").glob("*") if path.is_file()]
