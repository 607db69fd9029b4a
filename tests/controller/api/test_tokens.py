"""Tokens: whose they are, what they allow, and how they end."""

from __future__ import annotations

import re

import pytest
from simulators.http_world import Client, HttpWorld, error_of
from sprat_controller.access.actor import SubjectKind
from sprat_controller.access.policy import Role
from sprat_controller.store.tables import AuditRecord
from sqlmodel import col, select

V1 = "/api/v1"


async def make(client: Client, **body: object) -> dict[str, str]:
    answer = await client.post("tokens", {"name": "ci", "role": "viewer", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_token_is_its_makers_own_and_good_until_it_is_revoked(world: HttpWorld) -> None:
    viewer = world.client(Role.VIEWER)
    made = await make(viewer)
    assert made["subject_id"] == "user:viewer"
    assert re.fullmatch(r"sprat_[A-Za-z0-9_-]{49}", made["token"])
    ci = world.client_of(made["token"])
    who = (await ci.get("whoami")).json()
    assert (who["subject"], who["token"], who["token_role"]) == (
        "user:viewer",
        made["id"],
        "viewer",
    )
    assert (await viewer.send("DELETE", f"{V1}/tokens/{made['id']}")).status_code == 204
    assert error_of(await ci.get("whoami")) == (401, "not_authenticated")
    listed = (await viewer.get("tokens")).json()["items"]
    assert made["token"] not in str(listed)
    assert next(one for one in listed if one["name"] == "ci")["revoked_at"]


async def test_a_token_ends_when_it_was_said_to_and_after_90_days_else(world: HttpWorld) -> None:
    viewer = world.client(Role.VIEWER)
    day, quarter = await make(viewer, expires_days=1), await make(viewer, name="other")
    for made, days in ((day, 1), (quarter, 89)):
        ci = world.client_of(made["token"])
        world.later(days=days, seconds=-1)
        assert (await ci.get("whoami")).status_code == 200
        world.later(seconds=1)
        assert error_of(await ci.get("whoami")) == (401, "not_authenticated")


async def test_a_token_is_for_a_year_at_most(world: HttpWorld) -> None:
    body = {"name": "ci", "role": "viewer", "expires_days": 367}
    assert error_of(await world.client().post("tokens", body)) == (422, "invalid_request")


async def test_a_name_is_taken_until_its_token_is_revoked(world: HttpWorld) -> None:
    admin = world.client()
    first = await make(admin)
    again = await admin.post("tokens", {"name": "ci", "role": "viewer"})
    assert error_of(again) == (409, "name_taken")
    await make(world.client(Role.VIEWER))
    await admin.send("DELETE", f"{V1}/tokens/{first['id']}")
    await make(admin)


async def test_everybody_sees_their_own_tokens_and_a_manager_all(world: HttpWorld) -> None:
    mine = (await world.client(Role.VIEWER).get("tokens")).json()["items"]
    assert {one["subject_id"] for one in mine} == {"user:viewer"}
    everybody = (await world.client().get("tokens")).json()["items"]
    assert len({one["subject_id"] for one in everybody}) == len(Role)


async def test_the_token_of_somebody_else_is_not_there(world: HttpWorld) -> None:
    other = (await world.client(Role.OPERATOR).get("tokens")).json()["items"][0]
    viewer = world.client(Role.VIEWER)
    there = await viewer.send("DELETE", f"{V1}/tokens/{other['id']}")
    gone = await viewer.send("DELETE", f"{V1}/tokens/nothing")
    assert error_of(there) == error_of(gone) == (404, "token_not_found")
    assert (
        there.json()["error"]["message"].replace(other["id"], "nothing")
        == (gone.json()["error"]["message"])
    )


async def test_what_a_token_made_of_its_own_ends_with_it(world: HttpWorld) -> None:
    viewer = world.client(Role.VIEWER)
    parent = await make(viewer, expires_days=10)
    child = await make(world.client_of(parent["token"]), name="child", expires_days=90)
    assert child["expires_at"] == parent["expires_at"]
    grandchild = await make(world.client_of(child["token"]), name="grandchild")
    await viewer.send("DELETE", f"{V1}/tokens/{parent['id']}")
    for made in (child, grandchild):
        answer = await world.client_of(made["token"]).get("whoami")
        assert error_of(answer) == (401, "not_authenticated")


async def test_a_service_has_tokens_of_the_person_it_acts_for(world: HttpWorld) -> None:
    world.admit("ci", "viewer", kind=SubjectKind.SERVICE, owner="user:viewer")
    made = await make(world.client(Role.VIEWER), name="nightly", subject="ci")
    assert made["subject_id"] == "service:ci"
    who = (await world.client_of(made["token"]).get("whoami")).json()
    assert who["subject"] == "service:ci"
    for subject in ("service:ci", "nobody"):
        body = {"name": "x", "role": "viewer", "subject": subject}
        answer = await world.client(Role.OPERATOR).post("tokens", body)
        assert error_of(answer) == (403, "not_allowed")


@pytest.mark.parametrize("change", ["checksum", "secret"])
async def test_a_mistyped_token_is_known_by_its_checksum(world: HttpWorld, change: str) -> None:
    token = (await make(world.client()))["token"]
    at = -1 if change == "checksum" else 10
    wrong = token[:at] + ("A" if token[at] != "A" else "B") + (token[at + 1 :] if at > 0 else "")
    assert error_of(await world.client_of(wrong).get("whoami")) == (401, "not_authenticated")


async def test_making_and_revoking_is_written_down_with_before_and_after(world: HttpWorld) -> None:
    viewer = world.client(Role.VIEWER)
    made = await make(viewer)
    await viewer.send("DELETE", f"{V1}/tokens/{made['id']}")
    with world.parts.database.reading() as session:
        about = col(AuditRecord.subject) == f"token/{made['id']}"
        rows = session.exec(select(AuditRecord).where(about)).all()
    assert [row.tag for row in rows] == ["operator:token:created", "operator:token:revoked"]
    assert {row.actor for row in rows} == {"user:viewer"}
    assert b'"before":{}' in rows[0].body
    assert rows[1].body.count(b'"revoked":') == 2
    assert made["token"].encode() not in rows[0].body
