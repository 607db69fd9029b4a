"""The verbs of a rollout, each held to the revision that was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulators.api_fleet import enrol, publish, run
from simulators.http_world import Client, HttpWorld, error_of
from sprat_controller.access.policy import Role

WHAT: dict[str, Any] = {
    "model": "talk",
    "release": "1.0.0",
    "alias": "assistant",
    "strategy": {"groups": [{"devices": 1, "waits_for_promotion": True}, {}]},
}


@pytest.fixture
async def fleet(world: HttpWorld, tmp_path: Path) -> HttpWorld:
    """Two devices, and a release."""
    for name in ("gw-1", "gw-2"):
        await enrol(world, name)
    await publish(world, tmp_path)
    return world


async def started(admin: Client) -> dict[str, Any]:
    made = (await admin.post("rollouts", WHAT)).json()
    return (await admin.post(f"rollouts/{made['id']}/start")).json()


async def test_a_change_of_what_was_looked_at_is_made(fleet: HttpWorld, admin: Client) -> None:
    del fleet
    shown = await started(admin)
    body = {"expected_revision": shown["revision"]}
    paused = await admin.post(f"rollouts/{shown['id']}/pause", body)
    assert (paused.status_code, paused.json()["state"]) == (200, "PAUSED")
    assert paused.json()["revision"] == shown["revision"] + 1


async def test_a_change_of_something_else_is_refused_with_what_changed(
    fleet: HttpWorld, admin: Client
) -> None:
    shown = await started(admin)
    path, looked_at = f"rollouts/{shown['id']}", {"expected_revision": shown["revision"]}
    fleet.later(minutes=3)
    assert (await fleet.client(Role.OPERATOR).post(f"{path}/pause")).status_code == 200
    bodies: dict[str, dict[str, Any]] = {
        "promote": {"group": 0},
        "approve": {"spec_sha256": "0" * 64},
        "deny": {"reason": "no"},
        "override-approval": {"reason": "the model leaks secrets"},
        "review-override": {"verdict": "accepted"},
    }
    verbs = ("start", "pause", "resume", "stop", "retry-failed", "roll-back", *bodies)
    answers = [
        await admin.post(f"{path}/{verb}", {**bodies.get(verb, {}), **looked_at}) for verb in verbs
    ]
    edit = {"name": "another", **looked_at}
    answers.append(await admin.send("PATCH", f"/api/v1/{path}", json=edit))
    for answer in answers:
        assert error_of(answer) == (409, "revision_changed")
        assert answer.json()["error"]["message"] == (
            f"expected revision {shown['revision']} of rollout {shown['id']}, found"
            f" {shown['revision'] + 1}: user:operator had it paused (STARTING -> PAUSED) at"
            " 2026-11-23T12:03:00.000+00:00; look again"
        )
    after = (await admin.get(path)).json()
    assert (after["state"], after["revision"]) == ("PAUSED", shown["revision"] + 1)


async def test_a_revision_that_never_was_is_refused(fleet: HttpWorld, admin: Client) -> None:
    del fleet
    shown = await started(admin)
    answer = await admin.post(f"rollouts/{shown['id']}/pause", {"expected_revision": 99})
    assert error_of(answer) == (409, "revision_changed")
    assert "found 2: it was never that; look again" in answer.json()["error"]["message"]
    wrong = await admin.post(f"rollouts/{shown['id']}/pause", {"expected_revision": "two"})
    assert error_of(wrong) == (422, "invalid_request")


async def test_a_person_promotes_a_group_and_takes_a_rollout_back(
    fleet: HttpWorld, admin: Client
) -> None:
    shown = await started(admin)
    path = f"rollouts/{shown['id']}"
    run(fleet)
    running = (await admin.get(path)).json()
    assert [one["state"] for one in running["groups"]] == ["RUNNING", "SCHEDULED"]

    body = {"group": 0, "expected_revision": running["revision"]}
    promoted = await admin.post(f"{path}/promote", body)
    assert promoted.status_code == 200, promoted.text
    assert promoted.json()["groups"][0]["promoted_by"] == "user:admin"
    run(fleet)
    groups = (await admin.get(path)).json()["groups"]
    assert [one["state"] for one in groups] == ["FINISHED", "RUNNING"]
    unknown = await admin.post(f"{path}/promote", {"group": 7})
    assert error_of(unknown) == (404, "group_not_found")

    nothing = await admin.post(f"{path}/retry-failed")
    assert error_of(nothing) == (409, "nothing_to_retry")
    back = await admin.post(f"{path}/roll-back")
    assert (back.status_code, back.json()["state"]) == (200, "ROLLING_BACK")
