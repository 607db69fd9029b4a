"""Both repositories, a source of blobs over real TLS, and a device's registry on a real disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sprat_agent.registry.device_trust import DeviceTrust
from sprat_agent.registry.fetch import Access
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.store import Store
from sprat_agent.state import State
from sprat_proto.assignment import AssignedModel

from simulators.blob_source import BlobSource
from simulators.signed import Release
from simulators.trusting import WorldRemote
from simulators.tuf_world import TufWorld

NOW = datetime.now(UTC)  # noqa: TID251 - TLS judges certificates by the real clock


@dataclass
class Shop:
    """All of it."""

    folder: Path
    source: BlobSource
    world: TufWorld
    remote: WorldRemote
    state: State
    trust: DeviceTrust
    access: Access
    store: Store
    registry: LocalRegistry
    ca: Path
    wanted: dict[str, AssignedModel] = field(default_factory=dict[str, AssignedModel])

    def publish(self, one: Release) -> Release:
        """Release it, and have it assigned with all that was published before."""
        self.source.blobs |= one.blobs
        self.world.image.publish(one.manifest)
        alias = f"a{len(self.wanted)}"
        self.wanted[alias] = one.wanted(f"e-{alias}", alias)
        self.assign(list(self.wanted.values()))
        return one

    def assign(self, models: Sequence[AssignedModel]) -> None:
        """Have the director's plan accepted, approvals aside."""
        version = self.world.director.version + 1
        plan = self.trust.director.check(self.world.plan("gw-1", version, models))
        with self.state.transaction() as connection:
            self.trust.director.keep(connection, plan)

    def files(self) -> set[str]:
        """Return every file that the registry holds, by name."""
        folders = ("blobs", "partial", "versions")
        found = [path for name in folders for path in (self.folder / name).rglob("*")]
        return {path.name for path in found if path.is_file() or path.is_symlink()}
