"""What a release asks of fit, what a rollout asks instead, and what the device then runs."""

from __future__ import annotations

from typing import Any

import pytest
from simulators.fleet import ALIAS, MODEL, Fleet, ask, status

DEVICE = "choosy-1"
RELEASE = "5.0.0"


def codes(line: dict[str, Any]) -> dict[str, str | None]:
    return {one["variant"]: one["code"] for one in line["verdicts"]}


@pytest.mark.timeout(900)
def test_a_rollout_may_ask_otherwise_than_its_release_and_the_device_obeys(fleet: Fleet) -> None:
    fleet.push(RELEASE, "This is chosen.", "--aim", "smallest", variants="q8_0,q4_0")
    agent = fleet.agent(DEVICE)
    fleet.wait_online([DEVICE])

    def planned(*options: str) -> dict[str, Any]:
        plan = ("rollout", "plan", f"{MODEL}@{RELEASE}", "--alias", ALIAS, "--context", "256")
        (line,) = fleet.sprat(*plan, "--device", DEVICE, *options, "-o", "json")["devices"]
        return line

    assert codes(planned()) == {"q4_0": None, "q8_0": "LARGER"}
    own = fleet.start_rollout(RELEASE, [DEVICE])
    execution = fleet.wait_finished(own)[DEVICE]
    assert (execution["state"], execution["variant"]) == ("SUCCEEDED", "q4_0")
    assert fleet.sprat("rollout", "show", own, "-o", "json")["policy"] is None

    lifted = fleet.start_rollout(RELEASE, [DEVICE], "--aim", "quality-first")
    execution = fleet.wait_finished(lifted)[DEVICE]
    assert (execution["state"], execution["variant"]) == ("SUCCEEDED", "q8_0")
    shown = fleet.sprat("rollout", "show", lifted, "-o", "json")
    assert shown["policy"]["aim"] == "quality-first"
    (model,) = status(agent)["models"]
    assert model["variant"] == "q8_0"
    assert ask(agent)[1] == execution["digest"]

    # Nobody evaluated them: what cannot be known is not kept to.
    refused = planned("--max-quality-loss", "1%")
    assert refused["action"] == "REJECTED"
    assert codes(refused) == {"q8_0": "QUALITY_UNKNOWN", "q4_0": "QUALITY_UNKNOWN"}
    assert (
        "was not evaluated, the policy allows a quality loss of 1 %"
        in (refused["reason"]["message"])
    )
    assert codes(planned("--max-memory", "1MiB")) == {
        "q8_0": "OVER_MEMORY_LIMIT",
        "q4_0": "OVER_MEMORY_LIMIT",
    }
