"""Devices, models, rollouts and audit through the API, from upload to plan."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.api_fleet import enrol, publish
from simulators.http_world import START, Client, HttpWorld, error_of
from sprat_controller.access.policy import Role
from sprat_proto import canonical
from sprat_proto.merkle import Frontier, leaf_hash


async def test_devices_are_listed_page_by_page(world: HttpWorld, admin: Client) -> None:
    for name in ("c", "a", "b"):
        await enrol(world, name, site="lyon" if name != "b" else "paris")
    first = (await admin.get("devices?limit=2")).json()
    assert [item["id"] for item in first["items"]] == ["a", "b"]
    last = (await admin.get(f"devices?limit=2&after={first['next']}")).json()
    assert [item["id"] for item in last["items"]] == ["c"]
    assert last["next"] is None
    lyon = (await admin.get("devices?label=site=lyon&state=REGISTERED")).json()
    assert [item["id"] for item in lyon["items"]] == ["a", "c"]
    assert lyon["items"][0]["labels"] == {"site": "lyon"}
    assert lyon["items"][0]["simulated"] is True
    assert lyon["items"][0]["enrolled_at"] == "2026-11-23T12:00:00Z"


async def test_devices_are_listed_by_a_filter(world: HttpWorld, admin: Client) -> None:
    for name in ("c", "a", "b"):
        await enrol(world, name, site="lyon" if name != "b" else "paris")
    for wanted, names in (("site != lyon", ["b"]), ("device in (a, b) and simulated", ["a", "b"])):
        found = (await admin.get("devices", params={"filter": wanted})).json()
        assert [item["id"] for item in found["items"]] == names
    both = {"filter": "device = *", "label": "site=paris"}
    found = (await admin.get("devices", params=both)).json()
    assert [item["id"] for item in found["items"]] == ["b"]
    bad = await admin.get("devices", params={"filter": "town = lyon"})
    assert error_of(bad) == (400, "bad_filter")
    assert bad.json()["error"]["details"]["position"] == 1


async def test_a_list_says_of_a_device_what_its_page_says(world: HttpWorld, admin: Client) -> None:
    await enrol(world, "a", site="lyon")
    item = (await admin.get("devices")).json()["items"][0]
    page = (await admin.get("devices/a")).json()
    assert {name: page[name] for name in item} == item


async def test_labels_are_replaced(world: HttpWorld, admin: Client) -> None:
    await enrol(world, "a", site="lyon")
    body = {"labels": {"ring": "canary"}}
    changed = await admin.send("PATCH", "/api/v1/devices/a", json=body)
    assert changed.json()["labels"] == {"ring": "canary"}
    bad = await admin.send("PATCH", "/api/v1/devices/a", json={"labels": {"a b": "c"}})
    assert error_of(bad) == (400, "bad_label")


async def test_a_removed_device_leaves_the_list_and_keeps_its_page(
    world: HttpWorld, admin: Client
) -> None:
    await enrol(world, "a")
    for _ in range(2):
        assert (await admin.send("DELETE", "/api/v1/devices/a")).status_code == 204
    assert (await admin.get("devices")).json()["items"] == []
    assert (await admin.get("devices/a")).json()["revoked_at"] == "2026-11-23T12:00:00Z"
    assert (await admin.get("devices/a/audit")).json() == {"items": [], "next": None}


async def test_a_release_is_shown_with_its_manifests(
    world: HttpWorld, admin: Client, tmp_path: Path
) -> None:
    published = await publish(world, tmp_path)
    variant = published["variants"][0]
    assert variant["publisher"] == "me"
    assert variant["manifest"]["model"] == "talk"
    manifest = canonical.encode(variant["manifest"])
    assert variant["digest"] == canonical.sha256_hex(manifest)
    shown = (await admin.get("models/talk/releases/1.0.0")).json()
    assert shown == published
    models = (await admin.get("models")).json()["items"]
    assert models == [(await admin.get("models/talk")).json()]
    assert models[0]["releases"][0]["pushed_by"] == "user:publisher"
    missing = await admin.get("models/talk/releases/9.9.9")
    assert error_of(missing) == (404, "release_not_found")
    assert "1.0.0" in missing.json()["error"]["message"]


async def test_a_refused_release_names_the_check(world: HttpWorld) -> None:
    publisher = world.client(Role.PUBLISHER)
    body = {"release": "1.0.0", "publisher": "me", "metadata": "0" * 64}
    answer = await publisher.post("models/talk/releases", body)
    assert error_of(answer) == (422, "release_refused")
    assert answer.json()["error"]["details"] == {"check": "metadata"}


async def test_a_rollout_is_planned_created_and_steered(
    world: HttpWorld, admin: Client, tmp_path: Path
) -> None:
    published = await publish(world, tmp_path)
    await enrol(world, "a", site="lyon")
    body = {"model": "talk", "release": "1.0.0", "alias": "assistant", "labels": {"site": "lyon"}}
    line = (await admin.post("rollouts/plan", body)).json()["devices"][0]
    assert (line["device_id"], line["action"], line["variant"]) == ("a", "INSTALL", "q4_0")
    assert line["simulated"] is True
    assert line["digest"] == published["variants"][0]["digest"]
    assert line["verdicts"][0]["need"]["memory"] > 0
    assert (line["fetch_bytes"] > 0, line["expected_s"]) == (True, None)
    timed = (await admin.post("rollouts/plan", body | {"bandwidth": 1 << 10})).json()["devices"][0]
    assert timed["expected_s"] == -(-line["fetch_bytes"] // (1 << 10))

    created = await admin.post("rollouts", body | {"max_in_progress": 1})
    assert created.status_code == 201
    rollout = created.json()
    assert (rollout["state"], rollout["counts"]) == ("READY", {"QUEUED": 1})
    path = f"rollouts/{rollout['id']}"
    assert (await admin.get(path)).json() == rollout
    assert (await admin.get("rollouts")).json()["items"] == [rollout]
    for beginning, found in ((rollout["id"][:8], [rollout]), ("ffffffff", [])):
        assert (await admin.get(f"rollouts?id={beginning}")).json()["items"] == found
    execution = (await admin.get(f"{path}/executions")).json()["items"][0]
    assert (execution["device_id"], execution["state"]) == ("a", "QUEUED")
    assert execution["simulated"] is True

    assert error_of(await admin.post(f"{path}/pause"))[0] == 409
    assert (await admin.post(f"{path}/start")).json()["state"] == "STARTING"
    assert (await admin.post(f"{path}/stop")).json()["state"] == "STOPPING"
    assert world.woken


async def test_a_rollout_may_wait_for_its_time(
    world: HttpWorld, admin: Client, tmp_path: Path
) -> None:
    await publish(world, tmp_path)
    await enrol(world, "a")
    at = (START + timedelta(hours=1)).isoformat()
    body = {"model": "talk", "release": "1.0.0", "alias": "assistant", "start_at": at}
    created = (await admin.post("rollouts", body)).json()
    assert (created["state"], created["start_at"]) == ("SCHEDULED", "2026-11-23T13:00:00Z")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"release": "9.9.9"}, 404, "release_not_found"),
        ({"model": "nothing"}, 404, "model_not_found"),
        ({"devices": ["nobody"]}, 404, "device_not_found"),
        ({"labels": {"site": "mars"}}, 400, "no_devices"),
        ({"alias": "Not An Alias"}, 400, "invalid_rollout"),
        ({"context": 1}, 400, "invalid_rollout"),
        ({"slots": 65}, 400, "invalid_rollout"),
        ({"kv_type": "q2"}, 400, "invalid_rollout"),
        ({"pinned": "maybe"}, 422, "invalid_request"),
        ({"execution_timeout_s": 1 << 70}, 400, "invalid_rollout"),
    ],
)
async def test_a_rollout_that_cannot_be_is_refused(
    world: HttpWorld,
    admin: Client,
    tmp_path: Path,
    *,
    change: dict[str, Any],
    status: int,
    code: str,
) -> None:
    await publish(world, tmp_path)
    await enrol(world, "a")
    body = {"model": "talk", "release": "1.0.0", "alias": "assistant"} | change
    assert error_of(await admin.post("rollouts", body)) == (status, code)


async def test_the_log_is_read_page_by_page_and_by_what_is_asked(
    world: HttpWorld, admin: Client
) -> None:
    await enrol(world, "a")
    everything = (await admin.get("audit?limit=1000")).json()["items"]
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = (await admin.get(f"audit?limit=2&after={after}")).json()
        seen += [item["seq"] for item in page["items"]]
        after = page["next"]
    assert seen == [item["seq"] for item in everything] == list(range(1, len(seen) + 1))
    enrolled = (await admin.get("audit?tag=device:identity:enrolled")).json()["items"]
    assert [item["body"]["subject"] for item in enrolled] == ["device/a"]
    by_admin = (await admin.get("audit?actor=user:admin")).json()["items"]
    assert {item["body"]["tag"] for item in by_admin} == {"operator:enrolment:created"}
    of_device = (await admin.get("audit?subject=device/a")).json()["items"]
    assert of_device == enrolled
    verified = (await admin.get("audit/verify")).json()
    assert verified["ok"] is True
    assert verified["records"] == len(seen)
    frontier = Frontier()
    for item in everything:
        frontier.append(leaf_hash(canonical.encode(item["body"])))
    assert verified["head"] == frontier.root().hex()
    empty = (await admin.get("devices/a/audit/verify")).json()
    assert empty == {"ok": True, "records": 0, "head": None, "message": "no records yet"}
