"""Break glass: one person lets a rollout go without approvals, and another reviews it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulators.api_fleet import enrol, publish
from simulators.http_world import Client, HttpWorld, error_of
from simulators.two_sites import WHAT, made
from sprat_controller.access.actor import SubjectKind
from sprat_controller.audit.views import record
from sprat_controller.audit.views.record import Severity
from sprat_controller.store.tables import AuditRecord
from sprat_proto import canonical
from sprat_proto.approval import ApproverPolicy, GroupPolicy
from sprat_proto.audit_events import Tag
from sqlmodel import col, select

V1 = "/api/v1"
WHY = {"reason": "the model leaks secrets"}
BREAKERS = ["rollouts:read", "rollouts:change", "rollouts:break-glass"]
PENDING = "approved by override of user:ann: the model leaks secrets; review pending"


@pytest.fixture
async def fleet(any_world: HttpWorld, tmp_path: Path) -> HttpWorld:
    """Devices in two sites, each change of which two must approve; ann may break the glass."""
    world = any_world
    for name, site in (("gw-1", "lyon"), ("gw-2", "lima")):
        await enrol(world, name, site=site)
    await publish(world, tmp_path)
    world.policy = ApproverPolicy(1, [], [GroupPolicy("default", "controller", 2)])
    made(await world.client().post("roles", {"name": "breaker", "permissions": BREAKERS}))
    people = (("ann", "breaker"), ("bob", "approver"), ("eve", "approver"), ("oli", "operator"))
    for name, role in people:
        world.named[name] = world.admit(name, role)
    return world


def client(world: HttpWorld, name: str) -> Client:
    return world.client_of(world.named[name])


async def waiting(world: HttpWorld, by: str = "ann", **more: Any) -> str:
    who = client(world, by)
    id_ = str(made(await who.post("rollouts", {**WHAT, **more}))["id"])
    started = await who.post(f"rollouts/{id_}/start")
    assert started.json()["state"] == "WAITING_FOR_APPROVAL"
    return id_


async def override(by: Client, id_: str) -> None:
    answer = await by.post(f"rollouts/{id_}/override-approval", WHY)
    assert answer.status_code == 200, answer.text


async def overridden(world: HttpWorld, by: str = "ann") -> str:
    id_ = await waiting(world, by)
    await override(client(world, "ann"), id_)
    return id_


async def review(by: Client, id_: str, verdict: str = "accepted", note: str = "") -> httpx.Response:
    return await by.post(f"rollouts/{id_}/review-override", {"verdict": verdict, "note": note})


async def shown(world: HttpWorld, id_: str) -> dict[str, Any]:
    return (await world.client().get(f"rollouts/{id_}")).json()


def records(world: HttpWorld, tag: Tag) -> list[record.Record]:
    with world.parts.database.reading() as session:
        bodies = session.exec(select(AuditRecord.body).where(col(AuditRecord.tag) == tag.value))
        return [record.read(body) for body in bodies]


async def test_the_author_overrides_their_own_and_it_stands_as_pending(fleet: HttpWorld) -> None:
    id_ = await waiting(fleet)
    answer = await client(fleet, "ann").post(f"rollouts/{id_}/override-approval", WHY)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["state"] == "STARTING"
    assert found["approval_override"]["said"] == PENDING
    assert found["approval_override"]["review"] is None
    assert (await shown(fleet, id_))["approval_override"] == found["approval_override"]
    approval = (await fleet.client().get(f"rollouts/{id_}/approval")).json()
    assert approval["approved_by"] == [PENDING.removeprefix("approved by ")]
    assert approval["missing"] == []
    (kept,) = records(fleet, Tag.APPROVAL_OVERRIDDEN)
    assert (kept.actor, kept.subject, kept.severity) == (
        *("user:ann", f"rollout/{id_}"),
        Severity.ALARM,
    )
    assert kept.after == canonical.sha256_hex(approval["spec"].encode())
    assert kept.detail["reason"] == WHY["reason"]
    assert kept.detail["missing"] == ["2 approvals for the group default"]


@pytest.mark.parametrize("name", ["oli", "bob"])
async def test_who_may_not_is_refused_and_nothing_happens(fleet: HttpWorld, name: str) -> None:
    id_ = await waiting(fleet)
    answer = await client(fleet, name).post(f"rollouts/{id_}/override-approval", WHY)
    assert answer.status_code == 403
    assert "rollouts:break-glass" in answer.json()["error"]["message"]
    assert (await shown(fleet, id_))["state"] == "WAITING_FOR_APPROVAL"
    assert records(fleet, Tag.APPROVAL_OVERRIDDEN) == []


async def test_out_of_scope_is_not_there_and_in_part_refused(fleet: HttpWorld) -> None:
    both, lima = await waiting(fleet), await waiting(fleet, devices=["gw-2"])
    scoped = fleet.client_of(fleet.admit("lea", "breaker", "site = lyon"))
    answer = await scoped.post(f"rollouts/{both}/override-approval", WHY)
    assert error_of(answer) == (403, "outside_scope")
    answer = await scoped.post(f"rollouts/{lima}/override-approval", WHY)
    assert error_of(answer) == (404, "rollout_not_found")
    lyon = await waiting(fleet, devices=["gw-1"])
    answer = await scoped.post(f"rollouts/{lyon}/override-approval", WHY)
    assert answer.json()["state"] == "STARTING"
    # Nor is it reviewed by who has some of its devices, or told to them.
    await override(client(fleet, "ann"), both)
    other = fleet.client_of(fleet.admit("max", "approver", "site = lyon"))
    assert error_of(await review(other, both)) == (403, "outside_scope")
    assert error_of(await review(other, lima)) == (404, "rollout_not_found")
    assert (await other.get(f"rollouts/{both}")).json()["approval_override"] is None
    assert (await other.get(f"rollouts/{lyon}")).json()["approval_override"]["by"] == "user:lea"


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("", "found nothing"),
        (" \n\t ", "found nothing"),
        ("urgent fix", "found 'urgent fix'"),
        ("the model\x07 leaks", "found U+0007"),
    ],
)
async def test_a_reason_that_says_nothing_is_refused(
    fleet: HttpWorld, reason: str, found: str
) -> None:
    id_ = await waiting(fleet)
    body = {"reason": reason}
    answer = await client(fleet, "ann").post(f"rollouts/{id_}/override-approval", body)
    assert error_of(answer) == (400, "invalid_reason")
    assert found in answer.json()["error"]["message"]
    assert (await shown(fleet, id_))["state"] == "WAITING_FOR_APPROVAL"


async def test_a_body_without_a_reason_is_refused(fleet: HttpWorld) -> None:
    id_ = await waiting(fleet)
    for body in ({}, {"reason": None}, {"reason": "x " * 300}, {**WHY, "yes": True}):
        answer = await client(fleet, "ann").post(f"rollouts/{id_}/override-approval", body)
        assert answer.status_code == 422, body
    assert (await shown(fleet, id_))["state"] == "WAITING_FOR_APPROVAL"


async def test_what_devices_enforce_is_refused(fleet: HttpWorld) -> None:
    fleet.policy = ApproverPolicy(1, [], [GroupPolicy("default", "device-enforced", 2)])
    id_ = await waiting(fleet)
    answer = await client(fleet, "ann").post(f"rollouts/{id_}/override-approval", WHY)
    assert error_of(answer) == (422, "devices_enforce_approval")
    assert "2 signatures for the group default" in answer.json()["error"]["message"]
    assert (await shown(fleet, id_))["approval_override"] is None
    assert records(fleet, Tag.APPROVAL_OVERRIDDEN) == []


async def test_what_does_not_wait_for_approval_is_not_overridden(fleet: HttpWorld) -> None:
    ann = client(fleet, "ann")
    id_ = made(await ann.post("rollouts", WHAT))["id"]
    for _ in range(2):
        answer = await ann.post(f"rollouts/{id_}/override-approval", WHY)
        assert error_of(answer) == (409, "rollout_state")
    twice = await overridden(fleet)
    answer = await ann.post(f"rollouts/{twice}/override-approval", WHY)
    assert error_of(answer) == (409, "rollout_state")


async def test_an_edit_after_the_override_voids_it(fleet: HttpWorld) -> None:
    start_at = fleet.now.replace(year=fleet.now.year + 1).isoformat()
    ann = client(fleet, "ann")
    found = made(await ann.post("rollouts", {**WHAT, "start_at": start_at}))
    id_ = found["id"]
    assert found["state"] == "WAITING_FOR_APPROVAL"
    await override(ann, id_)
    assert (await shown(fleet, id_))["state"] == "SCHEDULED"
    edited = await ann.send("PATCH", f"{V1}/rollouts/{id_}", json={"max_in_progress": 1})
    assert edited.json()["state"] == "WAITING_FOR_APPROVAL"
    assert edited.json()["approval_override"] is None
    approval = (await ann.get(f"rollouts/{id_}/approval")).json()
    assert (approval["approved_by"], approval["missing"]) == (
        [],
        ["2 approvals for the group default"],
    )
    assert error_of(await review(client(fleet, "bob"), id_)) == (409, "not_overridden")
    assert error_of(await ann.post(f"rollouts/{id_}/start")) == (409, "rollout_state")
    said = [one.detail.get("void") for one in records(fleet, Tag.ROLLOUT_SUBMITTED)]
    assert PENDING.removeprefix("approved by ") in said


async def test_what_was_overridden_and_is_scheduled_may_be_started_now(fleet: HttpWorld) -> None:
    start_at = fleet.now.replace(year=fleet.now.year + 1).isoformat()
    ann = client(fleet, "ann")
    for disabled, state in ((False, "STARTING"), (True, "WAITING_FOR_APPROVAL")):
        id_ = made(await ann.post("rollouts", {**WHAT, "start_at": start_at}))["id"]
        await override(ann, id_)
        if disabled:  # whose word counts no more
            await fleet.client().post("users/ann/disable")
        started = await fleet.client().post(f"rollouts/{id_}/start")
        assert started.json()["state"] == state


async def test_nobody_reviews_their_own_by_any_account(fleet: HttpWorld) -> None:
    made(await fleet.client().post("bindings", {"subject": "ann", "role": "approver"}))
    id_ = await overridden(fleet)
    ann = fleet.client_of(fleet.token_of("user:ann", "approving", "approver"))
    assert error_of(await review(ann, id_)) == (403, "own_override")
    robot = fleet.admit("robot", "approver", kind=SubjectKind.SERVICE, owner="user:ann")
    assert error_of(await review(fleet.client_of(robot), id_)) == (403, "own_override")
    assert (await shown(fleet, id_))["approval_override"]["said"] == PENDING
    assert records(fleet, Tag.OVERRIDE_REVIEWED) == []


async def test_nor_as_another_whose_token_they_made(fleet: HttpWorld) -> None:
    admin, id_ = fleet.client(), await waiting(fleet, "oli")
    made(await admin.post("users", {"name": "puppet", "role": "approver"}))
    body = {"name": "mine", "role": "approver", "subject": "puppet"}
    token = made(await admin.post("tokens", body))["token"]
    await override(admin, id_)
    assert error_of(await review(fleet.client_of(token), id_)) == (403, "own_override")


async def test_nor_is_an_override_reviewed_by_who_asked_for_the_rollout(fleet: HttpWorld) -> None:
    id_ = await overridden(fleet, "oli")
    made(await fleet.client().post("bindings", {"subject": "oli", "role": "approver"}))
    oli = fleet.client_of(fleet.token_of("user:oli", "approving", "approver"))
    assert error_of(await review(oli, id_)) == (403, "own_rollout")
    assert records(fleet, Tag.OVERRIDE_REVIEWED) == []
    assert (await review(client(fleet, "bob"), id_)).status_code == 200


async def test_who_may_not_approve_does_not_review(fleet: HttpWorld) -> None:
    id_ = await overridden(fleet)
    answer = await review(fleet.client_of(fleet.admit("joe", "viewer")), id_)
    assert answer.status_code == 403
    assert "rollouts:approve" in answer.json()["error"]["message"]


async def test_somebody_else_accepts_it_once(fleet: HttpWorld) -> None:
    id_ = await overridden(fleet)
    answer = await review(client(fleet, "bob"), id_, note="nobody  else\nwas awake")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["approval_override"]["said"] == (
        PENDING.replace("review pending", "accepted by user:bob: nobody else was awake")
    )
    assert found["approval_override"]["review"]["by"] == "user:bob"
    for name in ("bob", "eve"):
        again = await review(client(fleet, name), id_, "rejected")
        assert error_of(again) == (409, "reviewed_already")
    assert (await shown(fleet, id_))["approval_override"] == found["approval_override"]
    (kept,) = records(fleet, Tag.OVERRIDE_REVIEWED)
    assert (kept.actor, kept.before, kept.after) == ("user:bob", "pending", "accepted")
    assert json.loads(kept.text)["detail"]["overridden_by"] == "user:ann"


async def test_a_rejection_stops_nothing_and_says_what_does(fleet: HttpWorld) -> None:
    id_ = await overridden(fleet)
    found = (await review(client(fleet, "bob"), id_, "rejected")).json()
    assert found["state"] == "STARTING"
    said = found["approval_override"]["said"]
    assert "rejected by user:bob; the rollout is STARTING all the same" in said
    assert f"`sprat rollout stop {id_}` ends it" in said
    stopped = await client(fleet, "oli").post(f"rollouts/{id_}/stop")
    assert stopped.json()["approval_override"]["said"].endswith("rejected by user:bob")


async def test_there_is_no_review_of_what_nobody_overrode(fleet: HttpWorld) -> None:
    id_ = await waiting(fleet)
    assert error_of(await review(client(fleet, "bob"), id_)) == (409, "not_overridden")
    assert (await review(client(fleet, "bob"), id_, "perhaps")).status_code == 422


async def test_a_review_of_another_revision_is_refused(fleet: HttpWorld) -> None:
    id_ = await overridden(fleet)
    before = (await shown(fleet, id_))["revision"]
    body = {"verdict": "accepted", "expected_revision": before - 1}
    answer = await client(fleet, "bob").post(f"rollouts/{id_}/review-override", body)
    assert error_of(answer) == (409, "revision_changed")
    body["expected_revision"] = before
    answer = await client(fleet, "bob").post(f"rollouts/{id_}/review-override", body)
    assert answer.json()["revision"] == before + 1
