from __future__ import annotations

import pytest
from simulators.controlled import MODEL, START, World
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.registry import channels
from sprat_controller.registry.channels import By, Channel
from sprat_controller.store.tables import Release
from sprat_proto.audit_events import Tag, actor_name

ANN = By("token:ann", START)


@pytest.fixture
def shop(world: World) -> World:
    """A model with three releases: 1.0.0, 1.1.0 and 2.0.0, with counters 1, 2 and 3."""
    world.publish("1.1.0", counter=2)
    world.publish("2.0.0", counter=3)
    return world


def put(world: World, channel: str, release: str) -> None:
    with world.database.transaction() as session:
        channels.put(session, MODEL, channel, release, ANN)


def take_out(world: World, channel: str, release: str) -> None:
    with world.database.transaction() as session:
        channels.take_out(session, MODEL, channel, release, ANN)


def retire(world: World, release: str) -> None:
    with world.database.transaction() as session:
        row = session.get(Release, (MODEL, release))
        assert row is not None
        row.retired_at = world.now
        session.add(row)


def newest(world: World, channel: str) -> str | None:
    with world.database.reading() as session:
        found = channels.newest(session, MODEL, channel)
        return found.release if found else None


def listed(world: World) -> dict[str, Channel]:
    with world.database.reading() as session:
        return {one.name: one for one in channels.of_model(session, MODEL)}


def test_a_channel_stands_for_the_newest_release_whenever_it_was_put_there(shop: World) -> None:
    assert newest(shop, "stable") is None
    for release in ("1.1.0", "1.0.0"):
        put(shop, "stable", release)
    put(shop, "beta", "2.0.0")
    assert (newest(shop, "stable"), newest(shop, "beta")) == ("1.1.0", "2.0.0")
    assert [one.release for one in listed(shop)["stable"].releases] == ["1.1.0", "1.0.0"]


def test_what_is_retired_stands_in_no_channel_any_more(shop: World) -> None:
    put(shop, "stable", "1.0.0")
    put(shop, "stable", "1.1.0")
    retire(shop, "1.1.0")
    assert newest(shop, "stable") == "1.0.0"
    assert listed(shop)["stable"].releases[0].retired_at == shop.now
    retire(shop, "1.0.0")
    assert newest(shop, "stable") is None
    assert listed(shop)["stable"].newest is None
    with pytest.raises(ConflictError, match="retired by its publisher"):
        put(shop, "beta", "1.0.0")


def test_a_release_leaves_a_channel_and_the_one_before_stands_there(shop: World) -> None:
    put(shop, "stable", "1.0.0")
    put(shop, "stable", "1.1.0")
    take_out(shop, "stable", "1.1.0")
    assert newest(shop, "stable") == "1.0.0"
    take_out(shop, "stable", "1.0.0")
    assert listed(shop) == {}
    with pytest.raises(NotFoundError, match=r"talk@1\.0\.0 is not in the channel 'stable'"):
        take_out(shop, "stable", "1.0.0")


def test_each_change_is_written_down_once(shop: World) -> None:
    put(shop, "stable", "1.0.0")
    put(shop, "stable", "1.0.0")
    take_out(shop, "stable", "1.0.0")
    assert len(shop.audited(Tag.CHANNEL_TAKEN_OUT)) == 1
    (record,) = shop.audited(Tag.CHANNEL_PUT)
    assert (actor_name(record["actor"]), record["subject"]) == ("token:ann", "channel/talk/stable")
    assert record["detail"] == {"release": "1.0.0"}


def test_what_is_no_channel_or_no_release_is_refused(shop: World) -> None:
    with pytest.raises(RequestError, match="expected the name of a channel"):
        put(shop, "Stable!", "1.0.0")
    with pytest.raises(NotFoundError, match=r"has no release '9\.9\.9'"):
        put(shop, "stable", "9.9.9")
    assert listed(shop) == {}
