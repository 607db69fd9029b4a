"""A device that declared more than it has refuses, is judged anew, and gets what it can carry."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from processes import wait_for
from simulators.fleet import ALIAS, MODEL, Fleet, ask

DEVICE = "boaster-1"
RELEASE = "4.0.0"
VARIANTS = ["q8_0", "q5_1", "q4_0"]
PLENTY = 1 << 40


def declare(path: Path, budget: int) -> None:
    """Write what the device says of itself."""
    declared = {
        "arch": "x86_64",
        "cores": 2,
        "cpu_features": [],
        "memory_bytes": PLENTY,
        "memory_budget_bytes": budget,
        "disk_free_bytes": PLENTY,
        "accelerators": [],
        "os": "Linux",
        "runtimes": ["llama.cpp"],
    }
    path.write_text(json.dumps(declared))


def needs(fleet: Fleet) -> dict[str, int]:
    """Return the bytes that each variant takes on the device, by the preview."""
    planned = fleet.sprat(
        *("rollout", "plan", f"{MODEL}@{RELEASE}", "--alias", ALIAS, "--context", "256"),
        *("--device", DEVICE, "-o", "json"),
    )
    (line,) = planned["devices"]
    assert line["variant"] == "q8_0"
    return {one["variant"]: one["need"]["memory"] for one in line["verdicts"]}


def phases_entered(fleet: Fleet, name: str, end: str) -> Counter[str]:
    """Return how often the device entered each phase of what it knows by this name."""

    def look() -> Counter[str]:
        entered = Counter(
            str(record["detail"]["phase"])
            for record in fleet.device_audit(DEVICE)
            if record["subject"] == f"execution/{name}"
            and record["tag"] == "agent:execution:entered"
        )
        return entered if end in entered else Counter()

    return wait_for(f"the audit of {name}", look)


def execution(fleet: Fleet, rollout: str) -> dict[str, Any]:
    return fleet.executions(rollout)[DEVICE]


@pytest.mark.timeout(900)
def test_a_device_with_less_than_it_declared_gets_the_next_variant(
    fleet: Fleet, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.json"
    declare(profile, PLENTY)
    agent = fleet.agent(DEVICE, "--declare-profile", str(profile))
    fleet.wait_online([DEVICE])
    assert fleet.roll_out("1.0.0", [DEVICE]) == {DEVICE: "SUCCEEDED"}
    pushed = fleet.push(RELEASE, "This one comes in three sizes.", variants=",".join(VARIANTS))
    digests = {one["variant"]: one["digest"] for one in pushed["variants"]}
    needed = needs(fleet)
    assert needed["q8_0"] > needed["q5_1"] > needed["q4_0"]

    agent.terminate()
    rollout = fleet.start_rollout(RELEASE, [DEVICE])
    wait_for("its assignment", lambda: execution(fleet, rollout)["state"] == "IN_PROGRESS")
    assert execution(fleet, rollout)["variant"] == "q8_0"
    declare(profile, needed["q8_0"] - 1)
    agent.start()
    wait_for("the next choice", lambda: execution(fleet, rollout)["attempt"] == 2)
    fleet.controller.kill()
    assert ask(agent)[1] in {fleet.digests["1.0.0"], digests["q5_1"]}
    fleet.controller.start()

    ended = fleet.wait_finished(rollout)[DEVICE]
    assert (ended["state"], ended["variant"], ended["attempt"]) == ("SUCCEEDED", "q5_1", 2)
    own, chosen, smallest = ended["verdicts"]
    assert (own["variant"], own["code"]) == ("q8_0", "INSUFFICIENT_MEMORY")
    assert own["by_device"]
    assert own["expected"] == f"{needed['q8_0']} bytes of memory"
    assert own["found"] == f"{needed['q8_0'] - 1} bytes"
    assert (chosen["code"], smallest["code"]) == (None, "LOWER_QUALITY")
    assert ask(agent)[1] == digests["q5_1"]
    refused = phases_entered(fleet, ended["id"], "REJECTED")
    assert refused == {"QUEUED": 1, "DOWNLOADING": 1, "REJECTED": 1}
    proved = phases_entered(fleet, f"{ended['id']}.2", "SUCCEEDED")
    assert set(proved.values()) == {1}
    # Of what it refused it has no byte.
    assert sorted(one.name for one in (agent.state / "versions").iterdir()) == sorted(
        [fleet.digests["1.0.0"], digests["q5_1"]]
    )
    assert not list((agent.state / "blobs").rglob(digests["q8_0"]))
