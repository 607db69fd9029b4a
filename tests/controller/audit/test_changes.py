"""What a record must say by its tag, and within which scope it was done."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from simulators.api_fleet import enrol, publish
from simulators.http_world import HttpWorld
from simulators.two_sites import LYON, WHAT, made, two_sites
from sprat_controller.access import scopes
from sprat_controller.access.scopes import EVERYTHING
from sprat_controller.audit import asking, log
from sprat_controller.audit.changes import CHANGES, FIELDS, Change, digest, fault
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord
from sprat_proto.audit_events import Tag
from sqlmodel import col, select

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("tag", CHANGES)
def test_a_record_without_a_field_of_its_tag_is_a_fault(tag: Tag) -> None:
    whole: dict[str, Any] = {"tag": tag.value, "outcome": "success", "before": "a", "after": "b"}
    assert not fault(whole)
    for field in FIELDS[CHANGES[tag]]:
        assert field in fault({name: value for name, value in whole.items() if name != field})


@pytest.mark.parametrize("outcome", ["denied", "failure"])
def test_what_failed_has_a_reason(outcome: str) -> None:
    record = {"tag": Tag.AUTH_DENIED.value, "outcome": outcome}
    assert "reason" in fault(record)
    assert not fault(record | {"reason": "not_allowed"})


def test_a_digest_does_not_depend_on_the_order_of_names() -> None:
    assert digest({"a": 1, "b": [True, ""]}) == digest({"b": [True, ""], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert FIELDS.keys() == set(Change)


def test_a_scope_is_that_of_who_asks_alone(any_database: Database) -> None:
    with asking.begin("one") as request, any_database.transaction() as session:
        request.identify("user:ann")
        request.limit(scopes.read(LYON))
        request.limit(EVERYTHING)  # another permission that it needs, and has everywhere
        for actor in ("user:ann", "planner"):
            log.append(session, Tag.CONTROLLER_STARTED, at=NOW, actor=actor, subject="x")
    with any_database.reading() as session:
        bodies = session.exec(select(AuditRecord.body).order_by(col(AuditRecord.seq))).all()
    assert [json.loads(body).get("scope") for body in bodies] == [LYON, None]


@pytest.mark.parametrize("first", [LYON, "group = kiosks", ""])
def test_a_request_that_needs_two_permissions_is_within_both(first: str) -> None:
    request = asking.Asking()
    second = "label.ring = canary or device = gw-1"
    for said in (first, second):
        request.limit(scopes.read(said))
    expected = scopes.read(first).narrowed(scopes.read(second))
    assert request.scope_of("") == expected.text
    assert second in request.scope_of("")
    assert first in request.scope_of("")


async def test_an_override_is_on_record_within_both_permissions_that_it_needs(
    tmp_path: Path,
) -> None:
    world = HttpWorld(tmp_path)
    await enrol(world, "gw-lyon", site="lyon")
    await enrol(world, "pump-lyon", site="lyon")
    await enrol(world, "gw-lima", site="lima")
    await publish(world, tmp_path)
    admin = world.client()
    made(await admin.post("roles", {"name": "emergency", "permissions": ["rollouts:override"]}))
    # Ann may roll out at Lyon, and overrides what gateways are held to, wherever they are.
    world.admit("ann", "operator", LYON)
    ann = world.client_of(world.token_of("user:ann", "all", "admin"))
    gateways = {"subject": "ann", "role": "emergency", "scope": "device = gw-*"}
    made(await admin.post("bindings", gateways))
    rollout = made(await ann.post("rollouts", {**WHAT, "strategy": {"override": "it leaks"}}))
    assert rollout["counts"] == {"QUEUED": 1}
    with world.parts.database.reading() as session:
        bodies = session.exec(select(AuditRecord.body)).all()
    records = [json.loads(body) for body in bodies if rollout["id"].encode() in body]
    assert {one["tag"] for one in records} >= {Tag.ROLLOUT_CREATED, Tag.ROLLOUT_OVERRIDDEN}
    assert {one["scope"] for one in records if one["actor"]["id"] == "ann"} == {
        f"{LYON} and device = gw-*"
    }


async def test_who_may_do_it_at_one_site_only_has_it_said_in_the_log(tmp_path: Path) -> None:
    world = HttpWorld(tmp_path)
    sites = await two_sites(world, tmp_path)
    body = {"labels": {"site": "lyon", "rack": "new"}}

    async def record_of(client: Any, path: str, sent: object) -> dict[str, Any]:
        answer = await client.send("PATCH", path, json=sent)
        request = answer.headers["x-request-id"]
        with world.parts.database.reading() as session:
            bodies = session.exec(select(AuditRecord.body)).all()
        found = [json.loads(one) for one in bodies if request.encode() in one]
        assert len(found) == 1, answer.text
        return found[0]

    path = "/api/v1/devices/gw-lyon"
    done = await record_of(sites.client("operator", "lyon"), path, body)
    assert (done["tag"], done["scope"]) == ("operator:device:labelled", LYON)
    assert done["after"] == digest({"group": "default", "labels": body["labels"]})
    assert done["before"] != done["after"]
    # Out of it: refused, and it is said within what.
    out = {"labels": {"site": "lima"}}
    refused = await record_of(sites.client("operator", "lyon"), path, out)
    assert (refused["outcome"], refused["reason"]) == ("denied", "outside_scope")
    assert refused["scope"] == LYON
    everywhere = await record_of(sites.client("operator"), path, {"labels": {"site": "lyon"}})
    assert "scope" not in everywhere
    assert everywhere["before"] == done["after"]
    world.close()
