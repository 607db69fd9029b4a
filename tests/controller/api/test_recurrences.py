from __future__ import annotations

from typing import Any

from simulators.http_world import START, Client, HttpWorld, error_of
from sprat_controller.access.policy import Role
from sprat_controller.store.tables import Occurrence, Release

BODY = {
    "model": "talk",
    "channel": "stable",
    "alias": "assistant",
    "cron": "0 2 * * 2#1",
    "zone": "Europe/Berlin",
    "filter": "site = lyon",
    "strategy": {"groups": [{"devices": 1}, {}], "pace": {"starts_per_minute": 5}},
}


def publish(world: HttpWorld) -> None:
    with world.parts.database.transaction() as session:
        session.add(
            Release(model="talk", release="1.0.0", counter=1, created_at=START, pushed_by="ci")
        )


async def test_a_recurring_rollout_is_added_looked_at_paused_and_removed(
    world: HttpWorld, admin: Client
) -> None:
    publish(world)
    answer = await admin.post("recurring-rollouts", BODY)
    assert answer.status_code == 201
    made = answer.json()
    assert made["name"] == "talk from stable"
    assert made["due_at"] == "2026-12-01T01:00:00Z"
    assert made["target"]["filter"] == "site = lyon"
    assert made["strategy"]["pace"] == {"starts_per_minute": 5}
    assert (made["created_by"], made["last"]) == ("user:admin", None)
    path = f"recurring-rollouts/{made['id']}"
    assert (await admin.get("recurring-rollouts")).json()["items"] == [made]
    assert (await admin.get(path)).json() == made
    paused = (await admin.post(f"{path}/pause")).json()
    assert (paused["due_at"], paused["paused_at"]) == (None, "2026-11-23T12:00:00Z")
    assert (await admin.post(f"{path}/resume")).json() == {**made, "revision": 3}
    assert (await admin.send("DELETE", f"/api/v1/{path}")).status_code == 204
    assert error_of(await admin.get(path)) == (404, "recurrence_not_found")
    assert (await admin.get("recurring-rollouts")).json()["items"] == []


async def test_what_came_of_each_moment_is_told_newest_first(
    world: HttpWorld, admin: Client
) -> None:
    publish(world)
    made = (await admin.post("recurring-rollouts", BODY)).json()
    for number in range(2):
        world.later(days=1)
        reason = {"code": "CHANNEL_EMPTY", "message": "nothing", "expected": "", "found": ""}
        with world.parts.database.transaction() as session:
            session.add(
                Occurrence(
                    recurrence_id=made["id"],
                    due_at=world.now,
                    decided_at=world.now,
                    release=f"1.0.{number}",
                    reason=reason,
                )
            )
    listed = (await admin.get(f"recurring-rollouts/{made['id']}/occurrences")).json()["items"]
    assert [one["release"] for one in listed] == ["1.0.1", "1.0.0"]
    assert listed[0]["reason"]["code"] == "CHANNEL_EMPTY"
    again = (await admin.get(f"recurring-rollouts/{made['id']}")).json()
    assert again["last"] == listed[0]


async def test_what_cannot_be_is_refused_with_its_code(world: HttpWorld, admin: Client) -> None:
    publish(world)
    cases: list[tuple[dict[str, Any], tuple[int, str]]] = [
        ({"model": "nothing"}, (404, "model_not_found")),
        ({"cron": "0 2 * *"}, (400, "invalid_recurrence")),
        ({"zone": "Mars/Base"}, (400, "invalid_recurrence")),
        ({"channel": "A B"}, (400, "invalid_channel")),
        ({"strategy": {"ends_at": 9}}, (400, "invalid_recurrence")),
        ({"every": "day"}, (422, "invalid_request")),
    ]
    for changes, expected in cases:
        assert error_of(await admin.post("recurring-rollouts", BODY | changes)) == expected
    assert (await admin.get("recurring-rollouts")).json()["items"] == []


async def test_one_is_edited_as_far_as_something_is_said(world: HttpWorld, admin: Client) -> None:
    publish(world)
    policy = {"max_ttft_ms": 500}
    made = (await admin.post("recurring-rollouts", {**BODY, "policy": policy})).json()
    path = f"/api/v1/recurring-rollouts/{made['id']}"
    change = {
        "channel": "beta",
        "cron": "0 3 * * *",
        "labels": {"ring": "first"},
        "slots": 2,
        "strategy": {"pace": {}, "retries": {"attempts": 2}},
        "expected_revision": 1,
    }
    answer = await admin.send("PATCH", path, json=change)
    assert answer.status_code == 200, answer.text
    edited = answer.json()
    assert edited == {
        **made,
        "channel": "beta",
        "name": "talk from beta",
        "cron": "0 3 * * *",
        "due_at": "2026-11-24T02:00:00Z",
        "target": {**made["target"], "labels": {"ring": "first"}},
        "slots": 2,
        "strategy": {"groups": [{"devices": 1}, {}], "retries": {"attempts": 2}},
        "revision": 2,
    }
    assert edited["policy"]["max_ttft_ms"] == 500
    own = await admin.send("PATCH", path, json={"policy": None, "name": "mine"})
    assert (own.json()["policy"], own.json()["name"], own.json()["revision"]) == (None, "mine", 3)
    assert (await admin.get(f"recurring-rollouts/{made['id']}")).json() == own.json()


async def test_what_cannot_be_is_refused_and_nothing_is_edited(
    world: HttpWorld, admin: Client
) -> None:
    publish(world)
    made = (await admin.post("recurring-rollouts", BODY)).json()
    path = f"/api/v1/recurring-rollouts/{made['id']}"
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "nothing_to_change"),
        ({"strategy": {}}, "nothing_to_change"),
        ({"cron": "0 0 30 2 *"}, "invalid_recurrence"),
        ({"zone": "Mars/Base"}, "invalid_recurrence"),
        ({"strategy": {"override": "now"}}, "invalid_recurrence"),
        ({"strategy": {"groups": [{"devices": 1}]}}, "invalid_rollout"),
        ({"context": 1}, "invalid_rollout"),
        ({"filter": "site ="}, "bad_filter"),
    )
    for wrong, code in cases:
        answer = await admin.send("PATCH", path, json=wrong)
        assert error_of(answer) == (400, code), wrong
    model = await admin.send("PATCH", path, json={"model": "other"})
    assert error_of(model) == (422, "invalid_request")
    unknown = await admin.send("PATCH", "/api/v1/recurring-rollouts/x", json={"name": "n"})
    assert error_of(unknown) == (404, "recurrence_not_found")
    assert (await admin.get(f"recurring-rollouts/{made['id']}")).json() == made


async def test_a_change_of_something_else_is_refused_with_what_changed(
    world: HttpWorld, admin: Client
) -> None:
    publish(world)
    made = (await admin.post("recurring-rollouts", BODY)).json()
    path, looked_at = f"recurring-rollouts/{made['id']}", {"expected_revision": made["revision"]}
    world.later(minutes=3)
    operator = world.client(Role.OPERATOR)
    assert (await operator.send("PATCH", f"/api/v1/{path}", json={"name": "x"})).status_code == 200
    answers = [
        await admin.post(f"{path}/pause", looked_at),
        await admin.post(f"{path}/resume", looked_at),
        await admin.send("PATCH", f"/api/v1/{path}", json={"name": "y", **looked_at}),
        await admin.send("DELETE", f"/api/v1/{path}?expected_revision=1"),
    ]
    for answer in answers:
        assert error_of(answer) == (409, "revision_changed")
        assert answer.json()["error"]["message"] == (
            f"expected revision 1 of recurring rollout {made['id']}, found 2: user:operator had it"
            " edited at 2026-11-23T12:03:00.000+00:00; look again"
        )
    shown = (await admin.get(path)).json()
    assert (shown["name"], shown["paused_at"]) == ("x", None)
    removed = await admin.send("DELETE", f"/api/v1/{path}?expected_revision=2")
    assert removed.status_code == 204
