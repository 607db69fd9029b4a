"""What fits where, through the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulators.api_fleet import PROFILE, enrol, publish
from simulators.http_world import Client, HttpWorld, error_of
from sprat_controller.access.policy import Role

TINY: dict[str, Any] = {**PROFILE, "memory_budget_bytes": 1 << 20}


@pytest.fixture
async def fleet(world: HttpWorld, tmp_path: Path) -> HttpWorld:
    """Two devices of one class, and a release."""
    for name in ("gw-1", "gw-2"):
        await enrol(world, name)
    await publish(world, tmp_path)
    return world


async def test_a_device_a_class_and_a_profile_are_judged_by_the_same_rule(
    fleet: HttpWorld, admin: Client
) -> None:
    del fleet
    for what in ({"device": "gw-1"}, {"hardware_class": "c"}, {"profile": PROFILE}):
        found = (await admin.post("fit", {"model": "talk", **what})).json()
        assert (found["model"], found["release"], found["chosen"]) == ("talk", "1.0.0", "q4_0")
        (verdict,) = found["verdicts"]
        assert verdict["fits"]
        assert verdict["need"]["memory"] > 0
    assert found["judged"] == "profile"
    assert found["hardware"]["devices"] == 0


async def test_what_does_not_fit_says_why(fleet: HttpWorld, admin: Client) -> None:
    del fleet
    body = {"model": "talk", "release": "1.0.0", "profile": TINY}
    found = (await admin.post("fit", body)).json()
    assert found["chosen"] is None
    (verdict,) = found["verdicts"]
    assert verdict["code"] == "INSUFFICIENT_MEMORY"
    assert "the budget is 1 MiB" in verdict["message"]


async def test_a_policy_counts(fleet: HttpWorld, admin: Client) -> None:
    del fleet
    body = {"model": "talk", "device": "gw-1", "policy": {"min_decode_tps": 5}}
    (verdict,) = (await admin.post("fit", body)).json()["verdicts"]
    assert verdict["code"] == "RATE_UNKNOWN"


async def test_the_matrix_has_each_class_and_the_newest_release_of_each_model(
    fleet: HttpWorld, admin: Client
) -> None:
    del fleet
    found = (await admin.post("fit/matrix", {})).json()
    assert [(one["hardware_class"], one["devices"]) for one in found["classes"]] == [("c", 2)]
    assert found["releases"] == [{"model": "talk", "release": "1.0.0", "variants": ["q4_0"]}]
    (cell,) = found["cells"]
    assert (cell["hardware_class"], cell["model"], cell["chosen"]) == ("c", "talk", "q4_0")
    asked = (await admin.post("fit/matrix", {"models": ["talk", "talk@1.0.0"]})).json()
    assert len(asked["cells"]) == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "talk"}, (400, "invalid_fit")),
        ({"model": "talk", "device": "gw-1", "hardware_class": "c"}, (400, "invalid_fit")),
        ({"model": "talk", "device": "nobody"}, (404, "device_not_found")),
        ({"model": "talk", "hardware_class": "nothing"}, (404, "class_not_found")),
        ({"model": "nothing", "device": "gw-1"}, (404, "model_not_found")),
        ({"model": "talk", "release": "9.9.9", "device": "gw-1"}, (404, "release_not_found")),
        ({"model": "talk", "profile": {}}, (400, "invalid_profile")),
        ({"model": "talk", "profile": {**PROFILE, "cores": "many"}}, (400, "invalid_profile")),
        ({"model": "talk", "profile": {**PROFILE, "colour": "red"}}, (400, "invalid_profile")),
        ({"model": "talk", "device": "gw-1", "context": 1}, (400, "invalid_rollout")),
        ({"model": "talk", "device": "gw-1", "kv_type": "q2"}, (400, "invalid_rollout")),
    ],
)
async def test_what_cannot_be_judged_is_refused(
    fleet: HttpWorld, admin: Client, body: dict[str, Any], code: tuple[int, str]
) -> None:
    del fleet
    assert error_of(await admin.post("fit", body)) == code


async def test_publishers_do_not_see_the_fleet(fleet: HttpWorld) -> None:
    client = fleet.client(Role.PUBLISHER)
    assert error_of(await client.post("fit", {"model": "talk", "device": "gw-1"}))[0] == 403
    assert error_of(await client.post("fit/matrix", {}))[0] == 403
