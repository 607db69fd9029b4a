"""A device's trust over the repositories in memory: real rows, floors, judge and intake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from sprat_agent.audit.journal import Journal
from sprat_agent.identity.identity import Identity
from sprat_agent.registry.device_trust import DeviceTrust, trust_of
from sprat_agent.registry.judge import Judge
from sprat_agent.registry.remote import Sources
from sprat_agent.registry.source import MemorySource, SourceError
from sprat_agent.registry.trust import Past
from sprat_agent.state import State
from sprat_agent.sync.freshness import reference_time
from sprat_agent.sync.intake import Intake
from sprat_agent.sync.ledger import Ledger
from sprat_proto.assignment import AssignedModel

from simulators.tuf_world import NOW, TufWorld

T = TypeVar("T")
HARDWARE = "cpu-x86_64"
BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class WorldRemote:
    """A `Remote` that reads from a world; may be away."""

    world: TufWorld
    is_away: bool = False
    # File names as they were asked for and are answered by something else.
    answers: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @contextmanager
    def opened(self) -> Generator[Sources]:
        if self.is_away:
            raise SourceError("the network is away")
        image = self.world.image
        blobs = {f"sha256/{sha256}": data for sha256, data in image.blobs.items()}
        yield Sources(MemorySource({**self.world.files(), **self.answers}), MemorySource(blobs))

    async def ask(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)


@dataclass
class Clockwork:
    """The device's clock, and whether anything keeps it right."""

    now: datetime = NOW
    is_synchronised: bool = True

    def __call__(self) -> datetime:
        return self.now

    def time(self, floor: datetime | None) -> datetime:
        return reference_time(self.now, floor, BUILT_AT, is_synchronised=self.is_synchronised)


def identity(world: TufWorld, folder: Path, device_id: str = "gw-1") -> Identity:
    """Return an enrolled device's identity; there are no files of it."""
    return Identity(
        device_id=device_id,
        group="store",
        folder=folder / "identity",
        controller_url="https://controller",
        grpc="controller:1",
        mqtt=None,
        identity_key="file",
        image_root=world.image.pinned,
        director_root=world.director.pinned,
    )


def trusting(
    world: TufWorld,
    state: State,
    folder: Path,
    remote: WorldRemote | None = None,
    clock: Clockwork | None = None,
) -> DeviceTrust:
    """Return a device's trust in the world's repositories."""
    time = (clock or Clockwork()).time
    who = identity(world, folder)
    return trust_of(state, who, folder / "scratch", remote or WorldRemote(world), time)


def judge(trust: DeviceTrust, past: Callable[[AssignedModel], Past] | None = None) -> Judge:
    """Return the judge of a device on which nothing ran before."""
    return Judge(trust.director, trust.image, trust.remote, HARDWARE, past or never)


def never(_wanted: AssignedModel) -> Past:
    """Nothing ran here before."""
    return Past(0, was_proved=False)


def intake(
    trust: DeviceTrust, state: State, ledger: Ledger, journal: Journal, device_id: str = "gw-1"
) -> Intake:
    """Return what takes in plans for a device of the group store."""
    return Intake(
        device_id,
        "store",
        trust.director,
        trust.image,
        trust.remote,
        state=state,
        ledger=ledger,
        journal=journal,
        uniform=lambda low, high: min(high, low + 0.01),
    )
