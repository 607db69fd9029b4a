"""What an operator says of how a model is served, all the way to the device's worker."""

from __future__ import annotations

import httpx
from processes import Agent
from simulators.fleet import Fleet, ask, status
from simulators.scraping import samples


def kv_bytes(agent: Agent) -> float:
    found = samples(httpx.get(f"{agent.url}/metrics", timeout=10).text)
    return found["sprat_memory_used_bytes", ("kind", "kv")]


def test_slots_kv_type_and_pinning_reach_the_worker_and_can_be_taken_back(fleet: Fleet) -> None:
    agent = fleet.agent("served-1")
    fleet.wait_online(["served-1"])
    terms = ("--slots", "2", "--kv-type", "q8_0", "--pinned")
    rollout = fleet.start_rollout("1.0.0", ["served-1"], *terms)
    assert fleet.wait_finished(rollout)["served-1"]["state"] == "SUCCEEDED"
    shown = fleet.sprat("rollout", "show", rollout, "-o", "json")
    assert (shown["slots"], shown["kv_type"], shown["pinned"]) == (2, "q8_0", True)
    (model,) = status(agent)["models"]
    # The slots are what the worker answered to its load.
    assert model["serving"] == {"slots": 2, "kv_type": "q8_0", "pinned": True}
    assert ask(agent)[1] == fleet.digests["1.0.0"]
    quantized = kv_bytes(agent)

    plain = fleet.roll_out("1.0.0", ["served-1"], "--slots", "2")
    assert plain == {"served-1": "SUCCEEDED"}
    (model,) = status(agent)["models"]
    assert model["serving"] == {"slots": 2, "kv_type": "f16", "pinned": False}
    assert quantized == kv_bytes(agent) * 34 / 64
    assert ask(agent)[1] == fleet.digests["1.0.0"]
