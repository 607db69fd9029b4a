"""An agent that goes back by itself, after crashes, is noticed by its controller at once."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
from simulators.controlled import ALIAS, MODEL, WEIGHTS, World, a_manifest
from simulators.device import PROFILE, Device, Disk, DiskRegistry
from simulators.plain_signer import read_plan
from simulators.signed import Release
from sprat_agent.runtime.quarantine import MAX_CRASHES
from sprat_agent.sync.retreat import Retreat
from sprat_agent.sync.voice import Speaker, Trust
from sprat_controller.store.tables import ObservedMetric
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState
from sprat_proto.v1 import link_pb2
from sqlmodel import select

RELEASES: Final = {"1.0.0": 1, "2.0.0": 2}


@pytest.fixture
def world() -> Generator[World]:
    made = World()
    for release, counter in RELEASES.items():
        made.publish(release, counter=counter)
    made.enrol("a")
    yield made
    made.close()


class Agent:
    """The agent's own executor, rows and voice, with a controller's conversation at its ear."""

    def __init__(self, world: World, folder: Path) -> None:
        made = [
            Release(a_manifest(name, weight, model=MODEL, release=release, counter=counter), {})
            for release, counter in RELEASES.items()
            for name, weight in WEIGHTS.items()
        ]
        self._world = world
        self._disk = Disk({one.digest: one for one in made})
        self._folder = folder
        self._version = 0
        self.start()

    def start(self) -> None:
        self.device = Device(self._folder, self._disk)
        self._speaker = Speaker(
            lambda: PROFILE,
            self.device.ledger,
            self.device.workers,
            outbox=self.device.outbox,
            journal=self.device.journal,
            trust=Trust(lambda: 1, lambda: self._version, lambda: False),
            version="1",
            disk_free=lambda: PROFILE.disk_free_bytes,
            memory_free=lambda: PROFILE.memory_bytes,
        )

    def greet(self) -> None:
        self._say(link_pb2.DeviceMessage(hello=self._speaker.hello()))

    def beat(self) -> None:
        self._say(link_pb2.DeviceMessage(heartbeat=self._speaker.heartbeat()))

    def report(self) -> None:
        for one in self.device.outbox.pending(0, 100):
            self._say(link_pb2.DeviceMessage(report=one))

    async def bring(self, release: str) -> None:
        """Let a rollout of a release bring it, with all that is said in between."""
        view = self._world.create(release)
        self._world.run_due()
        self.beat()
        await self.device.live()
        self.beat()  # its reports have not arrived yet
        self.report()
        self.beat()
        assert self._world.states(view.id) == {"a": ExecutionState.SUCCEEDED}

    async def crash_and_go_back(self) -> None:
        device = self.device
        for _ in range(MAX_CRASHES):
            device.crashes.note(device.answers())
        registry = DiskRegistry(self._disk)
        await Retreat(device.ledger, registry, device.workers, device.crashes).look()

    def _say(self, message: link_pb2.DeviceMessage) -> None:
        for answer in self._world.conversation.receive("a", "grpc", message):
            if answer.HasField("assignment"):
                self.device.assign(read_plan(answer.assignment))
                self._version += 1
            elif answer.HasField("report_ack"):
                self.device.outbox.acknowledge(answer.report_ack.up_to)


async def test_a_retreat_is_a_silent_fallback_and_noticed_within_a_heartbeat(
    world: World, tmp_path: Path
) -> None:
    agent = Agent(world, tmp_path)
    agent.greet()
    await agent.bring("1.0.0")
    former = agent.device.answers()
    await agent.bring("2.0.0")
    new = agent.device.answers()
    assert world.audited(Tag.DEVICE_FELL_BACK) == []
    await agent.crash_and_go_back()
    assert agent.device.answers() == former != new
    agent.beat()
    (record,) = world.audited(Tag.DEVICE_FELL_BACK)
    assert record["detail"] == {"alias": ALIAS, "expected": new, "found": former}
    with world.database.reading() as session:
        counted = {one.digest: one.fallbacks for one in session.exec(select(ObservedMetric))}
    assert counted == {former: 0, new: 1}
    agent.device.close()


async def test_one_that_went_back_while_it_was_away_is_noticed_when_it_returns(
    world: World, tmp_path: Path
) -> None:
    agent = Agent(world, tmp_path)
    agent.greet()
    await agent.bring("1.0.0")
    await agent.bring("2.0.0")
    await agent.crash_and_go_back()
    agent.device.close()
    agent.start()
    agent.greet()  # nothing is loaded yet
    assert world.audited(Tag.DEVICE_FELL_BACK) == []
    await agent.device.boot()
    agent.beat()
    agent.greet()
    assert len(world.audited(Tag.DEVICE_FELL_BACK)) == 1
    agent.device.close()


async def test_restarts_in_between_are_none(world: World, tmp_path: Path) -> None:
    agent = Agent(world, tmp_path)
    agent.greet()
    for release in RELEASES:
        await agent.bring(release)
        agent.device.close()
        agent.start()
        agent.greet()
        await agent.device.boot()
        agent.beat()
    assert world.audited(Tag.DEVICE_FELL_BACK) == []
    agent.device.close()
