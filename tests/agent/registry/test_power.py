"""Power may go at any point of a refresh and of a key rotation: no rollback, no brick."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.power import cuts, moments
from simulators.signed import release
from simulators.trusting import Clockwork, WorldRemote, trusting
from simulators.tuf_world import NOW, TufWorld
from sprat_agent.registry import metadata
from sprat_agent.registry.device_trust import DeviceTrust
from sprat_agent.registry.director import PlanRefusedError
from sprat_agent.registry.tuf_client import MetadataRefusedError
from sprat_agent.state import State
from sprat_proto.trust import Repository
from sprat_proto.v1 import link_pb2

POINTS = pytest.mark.parametrize("points", [40, pytest.param(200, marks=pytest.mark.full)])
ONE, TWO = release(), release("2.0.0", counter=2)


def versions(state: State, repository: Repository) -> dict[str, int]:
    with state.reading() as connection:
        return {row.role: row.version for row in metadata.read(connection, repository)}


def settled(folder: Path, world: TufWorld, work: Callable[[State, DeviceTrust], None]) -> None:
    """Do something on a device and switch it off properly: it is all in agent.db."""
    state = State(folder)
    work(state, trusting(world, state, folder))
    state.close()


@POINTS
@pytest.mark.parametrize("change", ["publish", "rotate"])
def test_t12_power_cuts_in_a_refresh_never_go_back_and_always_converge(
    tmp_path: Path, change: str, points: int
) -> None:
    world = TufWorld()
    world.image.publish(ONE.manifest)
    older = dict(world.files())
    world.image.limit_hardware("acme", ["cpu-x86_64"])
    home = tmp_path / "home"
    settled(home, world, lambda _, trust: trust.image.refresh())
    if change == "rotate":
        world.image.rotate_root()
        world.image.rotate_targets()
    world.image.publish(TWO.manifest)
    state = State(home)
    before = versions(state, "image")
    trust = trusting(world, state, home)
    taken = moments(state, home, tmp_path / "copies", lambda: trust.image.prove(TWO.path, "acme"))
    wanted = versions(state, "image")
    state.close()
    assert wanted["timestamp"] > before["timestamp"]
    disks = list(cuts(taken, tmp_path / "copies", points, random.Random(7)))  # noqa: S311 - which disks
    assert len(disks) >= points
    for disk in disks:
        again = State(disk)
        found = versions(again, "image")
        assert all(found[role] >= version for role, version in before.items())
        remote = WorldRemote(world, answers=older)
        with pytest.raises(MetadataRefusedError):
            trusting(world, again, disk, remote).image.refresh()
        assert trusting(world, again, disk).image.prove(TWO.path, "acme").named
        assert versions(again, "image") == wanted
        again.close()


def accept(state: State, trust: DeviceTrust, message: link_pb2.Assignment) -> None:
    plan = trust.director.check(message)
    with state.transaction() as connection:
        trust.director.keep(connection, plan)


@POINTS
def test_t12_power_cuts_while_the_directors_key_rotates(tmp_path: Path, points: int) -> None:
    world = TufWorld()
    first, second = (world.plan("gw-1", n, []) for n in (1, 2))
    home = tmp_path / "home"
    settled(home, world, lambda state, trust: accept(state, trust, second))
    world.director.rotate_root()
    world.director.rotate()
    third = world.plan("gw-1", 3, [])
    state = State(home)
    trust = trusting(world, state, home)
    taken = moments(state, home, tmp_path / "copies", lambda: accept(state, trust, third))
    wanted = versions(state, "director")
    state.close()
    assert wanted["root"] == 3
    for disk in cuts(taken, tmp_path / "copies", points, random.Random(8)):  # noqa: S311 - which disks
        again = State(disk)
        trust = trusting(world, again, disk)
        with pytest.raises(PlanRefusedError, match=r"BadVersionNumberError|UnsignedMetadataError"):
            trust.director.check(first)
        accept(again, trust, third)
        assert versions(again, "director") == wanted
        again.close()


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "pub-acme"])
@pytest.mark.parametrize("data", [b"", b"{", b'{"signed": {"version": 9}, "signatures": []}'])
def test_t12_damaged_rows_are_fetched_again_and_open_no_way_back(
    tmp_path: Path, role: str, data: bytes
) -> None:
    world = TufWorld()
    world.image.publish(ONE.manifest)
    older = dict(world.files())
    world.image.rotate_root()
    world.image.limit_hardware("acme", ["cpu-x86_64"])
    state = State(tmp_path)
    trust = trusting(world, state, tmp_path)
    assert trust.image.prove(ONE.path, "acme").named
    with state.transaction() as connection:
        connection.execute("UPDATE metadata SET data = ? WHERE role = ?", (data, role))
    with pytest.raises(MetadataRefusedError):
        trusting(world, state, tmp_path, WorldRemote(world, answers=older)).image.refresh()
    assert trust.image.prove(ONE.path, "acme").named
    state.close()


def test_t11_800_days_away_with_expired_roots_and_three_rotations_in_both(tmp_path: Path) -> None:
    world = TufWorld()
    world.image.root.expires = world.director.root.expires = NOW + timedelta(days=365)
    world.image.next_root()
    world.image.publish(ONE.manifest)
    clock = Clockwork()
    state = State(tmp_path)
    trust = trusting(world, state, tmp_path, clock=clock)
    trust.image.refresh()
    accept(state, trust, world.plan("gw-1", 1, [ONE.wanted("e1")]))
    later = NOW + timedelta(days=800)
    world.set_time(later)
    clock.now = later
    for rotate in (world.director.rotate_root, world.director.rotate, world.director.rotate_root):
        rotate()
    world.image.rotate_root()
    world.image.rotate_online()
    world.image.rotate_targets()
    world.image.publish(TWO.manifest)
    accept(state, trust, world.plan("gw-1", 2, [TWO.wanted("e2")]))
    assert trust.director.root_version() == 4
    assert trust.image.prove(TWO.path, "acme").named
    state.close()
