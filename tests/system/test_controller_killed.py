"""kill -9 of the controller in mid-rollout."""

from __future__ import annotations

from collections import Counter

import pytest
from processes import wait_for
from simulators.fleet import Fleet, ask

DEVICES = [f"dev-{number}" for number in range(4)]


@pytest.mark.timeout(900)
def test_a_rollout_survives_kills_of_the_controller(fleet: Fleet) -> None:
    for device in DEVICES:
        fleet.agent(device)
    fleet.wait_online(DEVICES)
    # One device at a time, so that every kill meets some that are done, one under way, some queued.
    rollout = fleet.start_rollout("1.0.0", DEVICES, "--max-in-progress", "1")
    for done_before_kill in (1, 2, 3):
        wait_for(
            f"{done_before_kill} executions to succeed",
            lambda count=done_before_kill: succeeded(fleet, rollout) >= count,
            timeout_s=60,
        )
        fleet.controller.kill()
        fleet.controller.start()
    executions = fleet.wait_finished(rollout)
    assert {device: e["state"] for device, e in executions.items()} == dict.fromkeys(
        DEVICES, "SUCCEEDED"
    )
    for device in DEVICES:
        assert ask(fleet.agents[device])[1] == fleet.digests["1.0.0"]
        assert phases_done(fleet, device, str(executions[device]["id"])) == {1}


def succeeded(fleet: Fleet, rollout: str) -> int:
    states = Counter(str(e["state"]) for e in fleet.executions(rollout).values())
    return states["SUCCEEDED"]


def phases_done(fleet: Fleet, device: str, execution: str) -> set[int]:
    """How often the device entered each phase of the execution."""

    def look() -> Counter[str]:
        entered = Counter(
            str(record["detail"]["phase"])
            for record in fleet.device_audit(device)
            if record["subject"] == f"execution/{execution}"
            and record["tag"] == "agent:execution:entered"
        )
        return entered if "SUCCEEDED" in entered else Counter()

    return set(wait_for(f"the audit of {device}", look).values())
