from __future__ import annotations

from simulators.http_world import START, Client, HttpWorld, error_of
from sprat_controller.store.tables import Release


def publish(world: HttpWorld, *releases: str) -> None:
    with world.parts.database.transaction() as session:
        for counter, release in enumerate(releases, 1):
            session.add(
                Release(
                    model="talk",
                    release=release,
                    counter=counter,
                    created_at=START,
                    pushed_by="user:ci",
                )
            )


async def put(client: Client, release: str, channel: str = "stable") -> object:
    path = f"/api/v1/models/talk/channels/{channel}/releases/{release}"
    answer = await client.send("PUT", path)
    return answer.json() if answer.is_success else error_of(answer)


async def test_channels_are_made_listed_and_emptied(world: HttpWorld, admin: Client) -> None:
    publish(world, "1.0.0", "1.1.0")
    await put(admin, "1.1.0")
    made = await put(admin, "1.0.0")
    listed = (await admin.get("models/talk/channels")).json()
    assert listed == made
    (stable,) = listed["items"]
    assert (stable["name"], stable["newest"]) == ("stable", "1.1.0")
    assert [one["counter"] for one in stable["releases"]] == [2, 1]
    assert stable["releases"][0]["put_by"] == "user:admin"
    for release in ("1.0.0", "1.1.0"):
        path = f"/api/v1/models/talk/channels/stable/releases/{release}"
        assert (await admin.send("DELETE", path)).status_code == 204
    assert (await admin.get("models/talk/channels")).json()["items"] == []


async def test_what_cannot_be_is_refused_with_its_code(world: HttpWorld, admin: Client) -> None:
    publish(world, "1.0.0")
    assert await put(admin, "9.9.9") == (404, "release_not_found")
    assert await put(admin, "1.0.0", "Stable") == (400, "invalid_channel")
    assert error_of(await admin.get("models/nothing/channels")) == (404, "model_not_found")
