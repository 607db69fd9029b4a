"""How fast a device answered real requests reaches the operators, and survives its restart."""

from __future__ import annotations

import json
from typing import Any

import httpx
from processes import Agent, wait_for
from simulators.fleet import ALIAS, Fleet

DEVICE = "busy-1"


def talk(agent: Agent, number: int) -> None:
    """Ask something that was not asked before, long enough to tell a rate by."""
    body = {"model": ALIAS, "prompt": f"{number} " + "Tell me more. " * 8, "max_tokens": 40}
    httpx.post(f"{agent.url}/v1/completions", content=json.dumps(body), timeout=30)


def seen(fleet: Fleet) -> list[dict[str, Any]]:
    return fleet.sprat("devices", "show", DEVICE, "-o", "json")["observed"]


def told(fleet: Fleet, requests: int) -> list[dict[str, Any]]:
    metrics = fleet.sprat("devices", "show", DEVICE, "-o", "json")["metrics"]
    return [one for one in metrics if one["requests"] >= requests]


def test_what_a_device_was_seen_to_do_is_told_and_kept(fleet: Fleet) -> None:
    agent = fleet.agent(DEVICE)
    fleet.wait_online([DEVICE])
    assert fleet.roll_out("1.0.0", [DEVICE]) == {DEVICE: "SUCCEEDED"}
    assert seen(fleet) == []
    for number in range(5):
        talk(agent, number)
    (one,) = wait_for("its rates", lambda: seen(fleet))
    assert (one["variant"], one["digest"]) == ("q4_0", fleet.digests["1.0.0"])
    assert one["prefill_milli_tps"] > 0
    assert 1 <= one["samples"] <= 5
    assert one["class_devices"] == (1 if one["decode_milli_tps"] else 0)
    (metrics,) = wait_for("its metrics", lambda: told(fleet, requests=5))
    assert (metrics["digest"], metrics["alias"], metrics["errors"]) == (one["digest"], ALIAS, 0)
    assert metrics["crashes"] == metrics["fallbacks"] == 0
    assert 0 < metrics["peak_bytes"] <= metrics["declared_bytes"]
    agent.terminate()
    agent.start()
    fleet.wait_online([DEVICE])
    assert [row["digest"] for row in seen(fleet)] == [fleet.digests["1.0.0"]]
