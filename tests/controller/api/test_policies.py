"""A policy of fit through the API: as people say it, and back the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulators.api_fleet import enrol, publish
from simulators.http_world import Client, HttpWorld, error_of

BODY = {"model": "talk", "release": "1.0.0", "alias": "assistant"}
POLICY: dict[str, Any] = {
    "aim": "speed-first",
    "min_decode_tps": 7.5,
    "max_ttft_ms": 2000,
    "prompt_tokens": 1024,
    "max_memory_bytes": 1 << 31,
    "min_context": 1024,
    "max_quality_loss": 0.35,
    "runtimes": ["llama.cpp"],
    "licences": ["Apache-2.0", "MIT"],
}
ASKS_NOTHING: dict[str, Any] = {
    "aim": "quality-first",
    "min_decode_tps": 0.0,
    "max_ttft_ms": 0,
    "prompt_tokens": 512,
    "max_memory_bytes": 0,
    "min_context": 0,
    "max_quality_loss": None,
    "runtimes": [],
    "licences": [],
}


@pytest.fixture
async def fleet(world: HttpWorld, tmp_path: Path) -> HttpWorld:
    await publish(world, tmp_path)
    await enrol(world, "a")
    return world


@pytest.mark.parametrize(
    ("asked", "answered"), [(POLICY, POLICY), ({}, ASKS_NOTHING), (None, None)]
)
@pytest.mark.usefixtures("fleet")
async def test_a_rollout_is_answered_with_the_policy_that_was_asked_for(
    admin: Client, asked: dict[str, Any] | None, answered: dict[str, Any] | None
) -> None:
    made = (await admin.post("rollouts", {**BODY, "policy": asked})).json()
    assert made["policy"] == answered
    assert (await admin.get(f"rollouts/{made['id']}")).json() == made


@pytest.mark.usefixtures("fleet")
async def test_a_plan_says_of_each_variant_whether_it_is_accepted_and_its_numbers(
    admin: Client,
) -> None:
    body = {**BODY, "policy": {"aim": "smallest"}}
    (line,) = (await admin.post("rollouts/plan", body)).json()["devices"]
    sizes = [one["need"]["memory"] for one in line["verdicts"]]
    assert sizes == sorted(sizes)
    chosen, *others = line["verdicts"]
    assert (chosen["variant"], chosen["code"]) == (line["variant"], None)
    assert {(one["fits"], one["code"]) for one in others} <= {(True, "LARGER")}
    assert chosen["rates"] == {"basis": "unknown", "decode_tps": None, "prefill_tps": None}
    assert chosen["ttft_ms"] is None
    assert "loss_percent" in chosen
    refused = {**BODY, "policy": {"min_decode_tps": 5}}
    (line,) = (await admin.post("rollouts/plan", refused)).json()["devices"]
    assert line["action"] == "REJECTED"
    assert {one["code"] for one in line["verdicts"]} == {"RATE_UNKNOWN"}


@pytest.mark.parametrize(
    ("policy", "status", "code"),
    [
        ({"aim": "fastest"}, 422, "invalid_request"),
        ({"min_decode_tps": -1}, 422, "invalid_request"),
        ({"min_decode_tps": "NaN"}, 422, "invalid_request"),
        ({"min_decode_tps": 1e300}, 422, "invalid_request"),
        ({"max_quality_loss": -0.1}, 422, "invalid_request"),
        ({"max_quality_loss": "a little"}, 422, "invalid_request"),
        ({"max_cost": 1}, 422, "invalid_request"),
        ({"runtimes": "llama.cpp"}, 422, "invalid_request"),
        ({"max_ttft_ms": -1}, 400, "invalid_rollout"),
        ({"max_memory_bytes": 1 << 60}, 400, "invalid_rollout"),
        ({"prompt_tokens": 0}, 400, "invalid_rollout"),
        ({"min_context": 4096}, 400, "invalid_rollout"),
        ({"runtimes": ["a b"]}, 400, "invalid_rollout"),
        ({"licences": [""]}, 400, "invalid_rollout"),
        ({"licences": ["MIT"] * 33}, 400, "invalid_rollout"),
    ],
)
@pytest.mark.usefixtures("fleet")
async def test_a_policy_that_cannot_be_is_refused(
    admin: Client, policy: dict[str, Any], status: int, code: str
) -> None:
    for path in ("rollouts/plan", "rollouts"):
        assert error_of(await admin.post(path, {**BODY, "policy": policy})) == (status, code)
    assert (await admin.get("rollouts")).json()["items"] == []
