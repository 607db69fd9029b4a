"""That another root is trusted is intended, and told, by both repositories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from simulators.sealed import journal_of
from simulators.signed import release
from simulators.trusting import Clockwork, WorldRemote, identity
from simulators.tuf_world import TufWorld
from sprat_agent.audit.intents import Intents
from sprat_agent.errors import StateError
from sprat_agent.registry.device_trust import trust_of
from sprat_agent.state import State

ONE = release("1.0.0", [b"weights"])


def test_each_new_root_is_a_pair_and_what_is_no_news_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, state = TufWorld(), State(tmp_path)
    world.image.publish(ONE.manifest)
    journal = journal_of(state)
    intents = Intents(state, journal)
    trust = trust_of(
        state,
        identity(world, tmp_path),
        tmp_path / "scratch",
        WorldRemote(world),
        Clockwork().time,
        intents=intents,
    )

    def told() -> list[tuple[str, str, str, str]]:
        records = [json.loads(one.body) for one in journal.batch(1000, 1 << 20)]
        return [(one["tag"], one["subject"], one["before"], one["after"]) for one in records]

    def look(version: int) -> None:
        trust.image.refresh()
        trust.director.check(world.plan("gw-1", version, [ONE.wanted("e1")]))

    look(1)
    assert told() == []  # the roots that were pinned
    world.image.rotate_root()
    world.director.rotate_root()
    look(2)
    look(3)
    assert told() == [
        (f"agent:root:{action}", f"root/{repository}", "1", "2")
        for repository in ("image", "director")
        for action in ("intended", "ended")
    ]
    assert (trust.image.root_version(), trust.director.root_version()) == (2, 2)

    # Cut off between the intent and the change: it did not happen, and the next look does it.
    def no_power(*_: object) -> None:
        raise KilledError

    world.director.rotate_root()
    plan = world.plan("gw-1", 4, [ONE.wanted("e1")])
    with monkeypatch.context() as patch:
        patch.setattr("sprat_agent.registry.refresh.keep", no_power)
        with pytest.raises(KilledError):
            trust.director.check(plan)
    intents.settle({"root": lambda _: str(trust.director.root_version())})
    trust.director.check(plan)
    outcomes = [
        json.loads(one.body)["outcome"]
        for one in journal.batch(1000, 1 << 20)
        if b":ended" in one.body
    ]
    assert outcomes == ["success", "success", "failure", "success"]
    assert trust.director.root_version() == 3
    state.close()


class KilledError(BaseException):
    """kill -9: nothing catches it."""


def test_a_root_is_not_trusted_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, state = TufWorld(), State(tmp_path)
    intents = Intents(state, journal_of(state))
    trust = trust_of(
        state,
        identity(world, tmp_path),
        tmp_path / "scratch",
        WorldRemote(world),
        Clockwork().time,
        intents=intents,
    )
    world.director.rotate_root()

    def full(*_: object) -> None:
        raise StateError("disk full")

    monkeypatch.setattr(intents, "begin", full)
    with pytest.raises(StateError):
        trust.director.check(world.plan("gw-1", 1, [ONE.wanted("e1")]))
    assert trust.director.root_version() == 1
    state.close()
