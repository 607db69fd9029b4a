"""Attempts of one person to be the four eyes of a rollout, each by its name; T36."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from simulators.api_fleet import enrol, publish
from simulators.http_world import Client, HttpWorld, error_of
from simulators.two_sites import WHAT, made
from sprat_controller.access.actor import SubjectKind
from sprat_proto import canonical
from sprat_proto.approval import ApproverPolicy, GroupPolicy

V1 = "/api/v1"
WAITING = "WAITING_FOR_APPROVAL"


@pytest.fixture
async def fleet(world: HttpWorld, tmp_path: Path) -> HttpWorld:
    """Two devices of a group in which two people must agree, ann who rolls out, and approvers."""
    for name, site in (("gw-1", "lyon"), ("gw-2", "lima")):
        await enrol(world, name, site=site)
    await publish(world, tmp_path)
    world.policy = ApproverPolicy(1, [], [GroupPolicy("default", "controller", 2)])
    for name, role in (("ann", "operator"), ("bob", "approver"), ("eve", "approver")):
        world.named[name] = world.admit(name, role)
    return world


def client(world: HttpWorld, name: str) -> Client:
    return world.client_of(world.named[name])


async def waiting(world: HttpWorld, creator: Client | None = None) -> str:
    """Return a rollout of ann's that waits for approvals."""
    by = creator or client(world, "ann")
    rollout = made(await by.post("rollouts", WHAT))["id"]
    started = await by.post(f"rollouts/{rollout}/start")
    assert started.json()["state"] == WAITING
    return rollout


async def approve(by: Client, world: HttpWorld, rollout: str) -> httpx.Response:
    shown = await world.client().get(f"rollouts/{rollout}/approval")
    sha256 = canonical.sha256_hex(shown.json()["spec"].encode())
    return await by.post(f"rollouts/{rollout}/approve", {"spec_sha256": sha256})


async def state(world: HttpWorld, rollout: str) -> str:
    return (await world.client().get(f"rollouts/{rollout}")).json()["state"]


async def test_two_others_are_enough(fleet: HttpWorld) -> None:
    rollout = await waiting(fleet)
    for name in ("bob", "eve"):
        assert (await approve(client(fleet, name), fleet, rollout)).status_code == 200
    assert await state(fleet, rollout) == "STARTING"


async def test_01_t36_nobody_approves_what_they_created(fleet: HttpWorld) -> None:
    rollout = await waiting(fleet)
    answer = await approve(client(fleet, "ann"), fleet, rollout)
    assert error_of(answer) == (403, "own_rollout")
    assert await state(fleet, rollout) == WAITING


async def test_02_t36_nor_by_another_token_of_theirs(fleet: HttpWorld) -> None:
    rollout = await waiting(fleet)
    body = {"name": "other", "role": "operator"}
    other = made(await client(fleet, "ann").post("tokens", body))["token"]
    answer = await approve(fleet.client_of(other), fleet, rollout)
    assert error_of(answer) == (403, "own_rollout")


async def test_03_t36_nor_by_a_service_that_acts_for_them(fleet: HttpWorld) -> None:
    rollout = await waiting(fleet)
    robot = fleet.admit("robot", "approver", kind=SubjectKind.SERVICE, owner="user:ann")
    answer = await approve(fleet.client_of(robot), fleet, rollout)
    assert error_of(answer) == (403, "own_rollout")


async def test_04_t36_nor_what_a_service_created_that_acts_for_them(fleet: HttpWorld) -> None:
    robot = fleet.admit("robot", "operator", kind=SubjectKind.SERVICE, owner="user:ann")
    rollout = await waiting(fleet, fleet.client_of(robot))
    answer = await approve(client(fleet, "ann"), fleet, rollout)
    assert error_of(answer) == (403, "own_rollout")


async def test_05_t36_nor_by_the_account_of_another_whose_token_they_made(
    fleet: HttpWorld,
) -> None:
    admin = fleet.client()
    rollout = await waiting(fleet, admin)
    made(await admin.post("users", {"name": "puppet", "role": "approver"}))
    body = {"name": "mine", "role": "approver", "subject": "puppet"}
    token = made(await admin.post("tokens", body))
    answer = await approve(fleet.client_of(token["token"]), fleet, rollout)
    assert error_of(answer) == (403, "own_rollout")


async def test_06_t36_nor_what_they_created_as_another_whose_token_they_made(
    fleet: HttpWorld,
) -> None:
    admin = fleet.client()
    made(await admin.post("users", {"name": "puppet", "role": "operator"}))
    body = {"name": "mine", "role": "operator", "subject": "puppet"}
    token = made(await admin.post("tokens", body))
    rollout = await waiting(fleet, fleet.client_of(token["token"]))
    fleet.later(minutes=1)
    await admin.send("DELETE", f"{V1}/tokens/{token['id']}")
    assert error_of(await approve(admin, fleet, rollout)) == (403, "own_rollout")


async def test_07_t36_an_edit_after_approval_voids_it_and_the_editor_approves_nothing(
    fleet: HttpWorld,
) -> None:
    rollout = await waiting(fleet)
    assert (await approve(client(fleet, "bob"), fleet, rollout)).status_code == 200
    fleet.named["carol"] = fleet.admit("carol", "operator")
    body = {"max_in_progress": 1}
    carol = client(fleet, "carol")
    edited = await carol.send("PATCH", f"{V1}/rollouts/{rollout}", json=body)
    assert edited.json()["state"] == WAITING
    shown = (await fleet.client().get(f"rollouts/{rollout}/approval")).json()
    assert shown["approved_by"] == []
    assert error_of(await approve(carol, fleet, rollout)) == (403, "own_rollout")
    assert error_of(await approve(client(fleet, "ann"), fleet, rollout)) == (403, "own_rollout")


async def test_08_the_word_of_somebody_who_was_disabled_since_does_not_count(
    fleet: HttpWorld,
) -> None:
    rollout = await waiting(fleet)
    assert (await approve(client(fleet, "bob"), fleet, rollout)).status_code == 200
    await fleet.client().post("users/bob/disable")
    answer = await approve(client(fleet, "eve"), fleet, rollout)
    assert answer.json()["missing"] == ["1 approval for the group default"]
    assert await state(fleet, rollout) == WAITING


async def test_09_a_role_of_ones_own_with_both_permissions_changes_nothing(
    fleet: HttpWorld,
) -> None:
    permissions = ["rollouts:read", "rollouts:change", "rollouts:approve"]
    made(await fleet.client().post("roles", {"name": "both", "permissions": permissions}))
    both = fleet.client_of(fleet.admit("zoe", "both"))
    rollout = await waiting(fleet, both)
    assert error_of(await approve(both, fleet, rollout)) == (403, "own_rollout")


async def test_10_no_label_takes_a_device_out_of_the_group_that_must_be_asked(
    fleet: HttpWorld,
) -> None:
    ann = client(fleet, "ann")
    for device in ("gw-1", "gw-2"):
        labels = {"labels": {"site": "lyon", "group": "nobody-asks"}}
        await ann.send("PATCH", f"{V1}/devices/{device}", json=labels)
    body: dict[str, Any] = {**WHAT, "name": "group nobody-asks"}
    rollout = made(await ann.post("rollouts", body))["id"]
    started = await ann.post(f"rollouts/{rollout}/start")
    assert started.json()["state"] == WAITING


async def test_11_an_approver_of_some_devices_does_not_approve_for_others(
    fleet: HttpWorld,
) -> None:
    rollout = await waiting(fleet)
    for where, expected in (("lyon", (403, "outside_scope")), ("rome", (404, "rollout_not_found"))):
        scoped = fleet.client_of(fleet.admit(f"of-{where}", "approver", f"site = {where}"))
        assert error_of(await approve(scoped, fleet, rollout)) == expected


async def test_12_one_person_is_not_two_by_a_service(fleet: HttpWorld) -> None:
    rollout = await waiting(fleet)
    robot = fleet.admit("robot", "approver", kind=SubjectKind.SERVICE, owner="user:bob")
    assert (await approve(client(fleet, "bob"), fleet, rollout)).status_code == 200
    answer = await approve(fleet.client_of(robot), fleet, rollout)
    assert error_of(answer) == (409, "approved_already")
    assert await state(fleet, rollout) == WAITING


async def test_13_starting_it_oneself_is_no_approval(fleet: HttpWorld) -> None:
    rollout = await waiting(fleet)
    for verb in ("start", "resume", "promote"):
        body = {"group": 0} if verb == "promote" else None
        answer = await client(fleet, "ann").post(f"rollouts/{rollout}/{verb}", body)
        assert answer.status_code == 409
    assert await state(fleet, rollout) == WAITING
