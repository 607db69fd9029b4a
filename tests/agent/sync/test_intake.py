"""Which plans are obeyed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators.device import Device, Disk
from simulators.signed import Release, release
from simulators.trusting import Clockwork, WorldRemote, trusting
from simulators.trusting import intake as make_intake
from simulators.tuf_world import NOW, TufWorld, new_key
from sprat_agent.registry.source import SourceError
from sprat_agent.sync.intake import Intake
from sprat_proto import assignment
from sprat_proto.assignment import AssignedModel
from sprat_proto.v1 import link_pb2

ONE, TWO = release(), release("2.0.0", counter=2)


class Desk:
    """A device and its world."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = TufWorld()
        for one in (ONE, TWO):
            self.world.image.publish(one.manifest)
        self.remote, self.clock = WorldRemote(self.world), Clockwork()
        self.device = Device(folder, Disk())
        self.intake = self.open()

    def open(self) -> Intake:
        device = self.device
        self.trust = trusting(self.world, device.state, self.folder, self.remote, self.clock)
        return make_intake(self.trust, device.state, device.ledger, device.journal)

    def plan(self, version: int = 5, one: Release = ONE) -> link_pb2.Assignment:
        return self.world.plan("gw-1", version, [one.wanted(f"e{version}")])

    def refusals(self) -> list[str]:
        audit = [json.loads(one.body) for one in self.device.journal.batch(999, 10**6)]
        return [one["detail"]["code"] for one in audit if one["tag"] == "agent:assignment:refused"]

    def version(self) -> int:
        return self.device.ledger.assignment_version()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.device.close()


async def test_a_plan_for_this_device_is_kept_with_all_that_proves_it(desk: Desk) -> None:
    assert await desk.intake.settle(desk.plan())
    kept = desk.device.ledger.assignment()
    assert kept is not None
    assert kept.models == [ONE.wanted("e5")]
    assert desk.trust.director.version() == 1
    assert desk.trust.director.named(ONE.path) is not None
    assert desk.device.ledger.expires() == desk.world.director.now.replace(day=1, month=12)


async def test_the_same_plan_again_is_nothing_to_speak_of(desk: Desk) -> None:
    plan = desk.plan()
    assert await desk.intake.settle(plan)
    for intake in (desk.intake, desk.open()):
        assert not await intake.settle(plan)
    assert desk.refusals() == []


async def test_a_plan_signed_anew_only_expires_later(desk: Desk) -> None:
    await desk.intake.settle(desk.plan())
    before = desk.device.journal.next_seq()
    later = desk.world.plan("gw-1", 5, [ONE.wanted("e5")], days=14)
    desk.remote.is_away = True  # nothing is to be asked for it
    assert await desk.intake.settle(later)
    expires = desk.device.ledger.expires()
    assert expires is not None
    assert (expires - NOW).days == 14
    assert desk.device.journal.next_seq() == before


async def test_one_version_never_says_two_things(desk: Desk) -> None:
    await desk.intake.settle(desk.plan(5, ONE))
    assert not await desk.intake.settle(desk.plan(5, TWO))
    assert desk.refusals() == ["ASSIGNMENT_INVALID"]


async def test_t5_yesterdays_plan_is_refused_and_nothing_changes(desk: Desk) -> None:
    old, new = desk.plan(5, ONE), desk.plan(6, TWO)
    await desk.intake.settle(new)
    for _ in range(3):
        assert not await desk.intake.settle(old)
    assert desk.version() == 6
    assert desk.refusals() == ["METADATA_REFUSED"]
    found = json.loads(desk.device.journal.batch(99, 10**6)[-1].body)["detail"]["found"]
    assert found.startswith("BadVersionNumberError")


async def test_t15_another_devices_plan_leaves_no_trace(desk: Desk) -> None:
    await desk.intake.settle(desk.plan(5))
    for _ in range(50):
        desk.world.plan("gw-2", 900, [])
    foreign = desk.world.plan("gw-2", 900, [TWO.wanted("x")])
    assert not await desk.intake.settle(foreign)
    assert desk.refusals() == ["OTHER_DEVICE"]
    # Its own next plan may well have a lower version than the one of the other device.
    desk.world.director.version = 1
    assert await desk.intake.settle(desk.plan(6, TWO))
    assert desk.version() == 6


async def test_t20_malformed_plans_are_refused(desk: Desk) -> None:
    world, models = desk.world, [ONE.wanted("e5")]
    delegating = world.director.issue(
        _custom(desk, models), [world.named(models[0])], delegations=world.image.targets.delegations
    )
    twice = world.plan("gw-1", 5, [ONE.wanted("e5"), ONE.wanted("e6")])
    unnamed = world.plan("gw-1", 5, models, targets=[])
    more = world.plan(
        "gw-1", 5, models, targets=[world.named(TWO.wanted("e")), world.named(models[0])]
    )
    foreign = world.plan("gw-2", 5, [])
    nothing = world.director.issue(None, [])
    for plan in (delegating, twice, unnamed, more, foreign, nothing):
        assert not await desk.intake.settle(plan)
    assert desk.version() == 0
    invalid = "ASSIGNMENT_INVALID"
    assert desk.refusals() == [invalid, invalid, invalid, invalid, "OTHER_DEVICE", invalid]


async def test_an_empty_plan_for_this_device_is_obeyed(desk: Desk) -> None:
    assert await desk.intake.settle(desk.world.plan("gw-1", 5, []))


async def test_a_strangers_signature_is_refused(desk: Desk) -> None:
    forged = desk.world.plan("gw-1", 5, [ONE.wanted("e")], by=new_key())
    assert not await desk.intake.settle(forged)
    assert desk.refusals() == ["METADATA_REFUSED"]


@pytest.mark.parametrize("part", ["targets", "snapshot", "timestamp"])
@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 10_000, b"0" * 6_000_000])
async def test_bytes_that_are_no_metadata_are_refused(desk: Desk, part: str, data: bytes) -> None:
    plan = desk.plan()
    setattr(plan, part, data)
    assert not await desk.intake.settle(plan)
    assert desk.refusals() == ["METADATA_REFUSED"]


async def test_a_plan_waits_until_the_image_repository_was_verified_once(desk: Desk) -> None:
    desk.remote.is_away = True
    with pytest.raises(SourceError):
        await desk.intake.settle(desk.plan())
    assert desk.version() == 0
    desk.remote.is_away = False
    assert await desk.intake.settle(desk.plan())
    desk.remote.is_away = True
    assert await desk.intake.settle(desk.plan(6, TWO))
    assert desk.refusals() == []


async def test_t22_a_fast_forward_is_undone_by_a_new_director_key(desk: Desk) -> None:
    await desk.intake.settle(desk.plan(5))
    desk.world.director.version = 2**31
    far = NOW.replace(year=2099)
    stolen = desk.world.plan("gw-1", 2**40, [TWO.wanted("evil")], issued=far)
    desk.clock.is_synchronised = False
    assert await desk.intake.settle(stolen)
    desk.world.director.version = 7
    assert not await desk.intake.settle(desk.plan(6))
    desk.world.director.rotate()
    assert await desk.intake.settle(desk.plan(6))
    assert desk.version() == 6
    assert desk.trust.director.version() == 1
    assert desk.trust.director.root_version() == 2
    assert desk.trust.director.now().year == 2026


def _custom(desk: Desk, models: list[AssignedModel]) -> object:
    return assignment.to_custom(desk.world.assignment("gw-1", 5, models))
