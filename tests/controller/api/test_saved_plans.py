"""Plans that are saved and carried out, through the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulators.api_fleet import enrol, publish
from simulators.http_world import Client, HttpWorld, error_of
from sprat_controller.access.policy import Role
from sprat_controller.store.tables import Device
from sprat_proto import canonical
from sprat_proto.approval import ApproverPolicy, GroupPolicy
from sqlmodel import col, update

WHAT: dict[str, Any] = {
    "model": "talk",
    "release": "1.0.0",
    "alias": "assistant",
    "labels": {"site": "lyon"},
    "strategy": {"groups": [{"devices": 1}, {}]},
}


@pytest.fixture
async def fleet(world: HttpWorld, tmp_path: Path) -> HttpWorld:
    """Two devices in Lyon, and a release."""
    for name in ("gw-1", "gw-2"):
        await enrol(world, name, site="lyon")
    await publish(world, tmp_path)
    return world


async def saved(client: Client) -> str:
    answer = await client.post("rollouts/plans", WHAT)
    assert answer.status_code == 201, answer.text
    assert [one["device_id"] for one in answer.json()["devices"]] == ["gw-1", "gw-2"]
    return answer.json()["id"]


async def test_a_plan_is_carried_out_as_it_was_shown(fleet: HttpWorld) -> None:
    operator = fleet.client(Role.OPERATOR)
    plan = await saved(operator)
    assert (await operator.get("rollouts")).json()["items"] == []
    fleet.later(days=1)
    made = await operator.post(f"rollouts/plans/{plan}/apply", {"name": "canary first"})
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["name"], shown["state"], shown["alias"]) == ("canary first", "READY", "assistant")
    assert shown["target"]["labels"] == {"site": "lyon"}
    assert shown["strategy"] == {"groups": [{"devices": 1}, {}]}
    assert [one["devices"] for one in shown["groups"]] == [1, 1]


async def test_saved_plans_are_listed_and_shown_while_they_are_kept(
    fleet: HttpWorld, admin: Client
) -> None:
    first = await saved(admin)
    fleet.later(days=1)
    second = await saved(fleet.client(Role.OPERATOR))
    viewer = fleet.client(Role.VIEWER)
    items = (await viewer.get("rollouts/plans")).json()["items"]
    assert [one["id"] for one in items] == [second, first]
    assert items[1]["made_by"] == "user:admin"
    assert items[0]["strategy"] == {"groups": [{"devices": 1}, {}]}
    assert [one["id"] for one in (await viewer.get("rollouts/plans?limit=1")).json()["items"]] == [
        second
    ]
    shown = (await viewer.get(f"rollouts/plans/{first}")).json()
    assert {name: shown[name] for name in items[1]} == items[1]
    assert [(one["device_id"], one["action"]) for one in shown["devices"]] == [
        ("gw-1", "INSTALL"),
        ("gw-2", "INSTALL"),
    ]
    assert shown["devices"][0]["code"] is None
    fleet.later(days=6)
    assert [one["id"] for one in (await viewer.get("rollouts/plans")).json()["items"]] == [second]
    assert error_of(await viewer.get(f"rollouts/plans/{first}")) == (404, "plan_not_found")


async def test_a_stale_plan_is_refused_with_what_changed(fleet: HttpWorld, admin: Client) -> None:
    plan = await saved(admin)
    await enrol(fleet, "gw-3", site="lyon")
    with fleet.parts.database.transaction() as session:
        session.exec(update(Device).where(col(Device.id) == "gw-1").values(hardware_class="d"))
    refused = await admin.post(f"rollouts/plans/{plan}/apply", {})
    assert error_of(refused) == (409, "plan_stale")
    assert refused.json()["error"]["message"] == (
        f"the plan {plan} is stale: device gw-1 has other hardware now (c -> d); device gw-3 is in"
        " the target now; plan again"
    )
    assert (await admin.get("rollouts")).json()["items"] == []
    again = await admin.post("rollouts/plans", WHAT)
    applied = await admin.post(f"rollouts/plans/{again.json()['id']}/apply", {})
    assert applied.status_code == 201


async def test_a_plan_is_kept_for_a_week(fleet: HttpWorld, admin: Client) -> None:
    plan = await saved(admin)
    fleet.later(days=6, hours=23)
    assert fleet.parts.rollouts.saved_plan(plan).made_by == "user:admin"
    fleet.later(hours=1)
    refused = await admin.post(f"rollouts/plans/{plan}/apply", {})
    assert error_of(refused) == (404, "plan_not_found")
    assert "plan again" in refused.json()["error"]["message"]
    unknown = await admin.post("rollouts/plans/nothing/apply", {})
    assert error_of(unknown) == (404, "plan_not_found")


async def test_what_a_plan_makes_is_approved_by_somebody_else_where_policy_asks(
    fleet: HttpWorld,
) -> None:
    fleet.policy = ApproverPolicy(
        schema=1, approvers=[], groups=[GroupPolicy("default", "controller", 1)]
    )
    operator = fleet.client(Role.OPERATOR)
    plan = await saved(operator)
    made = (await operator.post(f"rollouts/plans/{plan}/apply", {})).json()
    started = (await operator.post(f"rollouts/{made['id']}/start")).json()
    assert started["state"] == "WAITING_FOR_APPROVAL"
    spec = (await operator.get(f"rollouts/{made['id']}/approval")).json()["spec"]
    body = {"spec_sha256": canonical.sha256_hex(spec.encode())}
    own = await operator.post(f"rollouts/{made['id']}/approve", body)
    assert error_of(own) == (403, "own_rollout")
    given = await fleet.client(Role.APPROVER).post(f"rollouts/{made['id']}/approve", body)
    assert (given.status_code, given.json()["state"]) == (200, "STARTING")


async def test_a_plan_that_overrides_windows_is_carried_out_only_by_who_may(
    fleet: HttpWorld,
) -> None:
    operator = fleet.client(Role.OPERATOR)
    body = {**WHAT, "strategy": {"override": "it leaks"}}
    plan = (await operator.post("rollouts/plans", body)).json()["id"]
    refused = await operator.post(f"rollouts/plans/{plan}/apply", {})
    assert error_of(refused) == (403, "not_allowed")
    assert (await fleet.client().post(f"rollouts/plans/{plan}/apply", {})).status_code == 201
