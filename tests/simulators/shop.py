"""A publisher, a source of blobs over real TLS, and a device's registry on a real disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sprat_agent.registry.fetch import Access
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.store import Store

from simulators.blob_source import BlobSource
from simulators.signed import Release, Signer

NOW = datetime.now(UTC)  # noqa: TID251 - TLS judges certificates by the real clock


@dataclass
class Shop:
    """All of it."""

    folder: Path
    source: BlobSource
    publisher: Signer
    access: Access
    store: Store
    registry: LocalRegistry
    ca: Path

    def publish(self, one: Release) -> Release:
        self.source.blobs |= one.blobs
        return one

    def files(self) -> set[str]:
        """Return every file that the registry holds, by name."""
        folders = ("blobs", "partial", "versions")
        found = [path for name in folders for path in (self.folder / name).rglob("*")]
        return {path.name for path in found if path.is_file() or path.is_symlink()}
