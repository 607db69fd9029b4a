from __future__ import annotations

from pathlib import Path

from simulators.api_fleet import enrol, publish
from simulators.http_world import Client, HttpWorld, error_of


async def test_a_device_answers_why_before_and_within_a_rollout(
    world: HttpWorld, admin: Client, tmp_path: Path
) -> None:
    await publish(world, tmp_path)
    await enrol(world, "a", site="lyon")
    (nothing,) = (await admin.get("devices/a/why")).json()["items"]
    assert (nothing["alias"], nothing["code"]) == ("", "NOT_TARGETED")
    assert (nothing["rollout_id"], nothing["at"]) == (None, None)
    body = {"model": "talk", "release": "1.0.0", "alias": "assistant"}
    body["start_at"] = "2026-12-01T03:00:00Z"
    rollout = (await admin.post("rollouts", body)).json()
    (waits,) = (await admin.get("devices/a/why")).json()["items"]
    assert (waits["alias"], waits["code"]) == ("assistant", "WAITING_START")
    assert (waits["then"], waits["at"]) == ("it starts", "2026-12-01T03:00:00Z")
    assert waits["rollout_id"] == rollout["id"]
    assert waits["message"]
    assert f"/rollouts/{rollout['id']}/start" in waits["do"]


async def test_a_stranger_has_no_answer(admin: Client) -> None:
    assert error_of(await admin.get("devices/nobody/why")) == (404, "device_not_found")
