"""A folder with the metadata of both repositories, where a ceremony is held without a network.

    DIR/image/<version>.<role>.json, timestamp.json   what is published
    DIR/director/<version>.root.json
    DIR/staged/image/…, DIR/staged/director/…          what is to be published next

It travels between the key holders' machines on a stick; nothing in it is secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sprat_proto.trust import DIRECTOR, IMAGE, Repository

from sprat_controller.trust.file_names import FileName, parse_name
from sprat_controller.trust.words import MetadataError

REPOSITORIES: Final[tuple[Repository, ...]] = (IMAGE, DIRECTOR)
TIMESTAMP: Final = "timestamp.json"
_MAX_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Metadata:
    """All metadata files of one repository, by name."""

    repository: Repository
    files: Mapping[str, bytes]

    def versions(self, role: str) -> list[int]:
        """Return the versions of a role that are there, lowest first."""
        parsed = [parse_name(name) for name in self.files]
        return sorted(one.version for one in parsed if one is not None and one.role == role)

    def roles(self) -> list[str]:
        """Return the roles of which there are versions, by name."""
        parsed = [parse_name(name) for name in self.files]
        return sorted({one.role for one in parsed if one is not None})

    def newest(self, role: str) -> tuple[int, bytes]:
        """Return the highest version of a role.

        Raises:
            MetadataError: There is none.
        """
        versions = self.versions(role)
        if not versions:
            raise MetadataError(
                f"expected metadata of {role} in the {self.repository} repository, found none:"
                " fetch it anew with `sprat trust fetch`"
            )
        return versions[-1], self.files[str(FileName(versions[-1], role))]


def load(folder: Path) -> dict[Repository, Metadata]:
    """Read what is published. Blocking.

    Raises:
        MetadataError: The folder is not one that `sprat trust fetch` made.
    """
    found: dict[Repository, Metadata] = {name: _read(folder / name, name) for name in REPOSITORIES}
    for name, metadata in found.items():
        if not metadata.versions("root"):
            raise MetadataError(
                f"expected {folder / name}/1.root.json, found none: make the folder with"
                " `sprat trust fetch DIR`"
            )
    return found


def load_staged(folder: Path) -> dict[Repository, Metadata]:
    """Read what is to be published next. Blocking."""
    return {name: _read(folder / "staged" / name, name) for name in REPOSITORIES}


def check_unchanged(folder: Path, metadata: Metadata) -> None:
    """Hold that no version which is in the folder has another content by now. Blocking.

    Raises:
        MetadataError: One has: somebody rewrote what was published.
    """
    for name, data in metadata.files.items():
        path = folder / metadata.repository / name
        if name != TIMESTAMP and path.exists() and path.read_bytes() != data:
            raise MetadataError(
                f"expected {path} as it was published before, found another content: somebody"
                " rewrote it, so trust nothing of this controller until you know who"
            )


def save(folder: Path, metadata: Metadata) -> None:
    """Write the files of a repository into its place under `folder`. Blocking."""
    place = folder / metadata.repository
    place.mkdir(parents=True, exist_ok=True)
    for name, data in metadata.files.items():
        partial = place / f".{name}.partial"
        partial.write_bytes(data)
        partial.replace(place / name)


def stage(folder: Path, metadata: Metadata) -> None:
    """Write files that are to be published next. Blocking."""
    save(folder / "staged", metadata)


def _read(place: Path, repository: Repository) -> Metadata:
    files: dict[str, bytes] = {}
    for path in sorted(place.glob("*.json")) if place.is_dir() else []:
        if parse_name(path.name) is None and path.name != TIMESTAMP:
            raise MetadataError(f"expected metadata such as 2.root.json, found {path}")
        if path.stat().st_size > _MAX_BYTES:
            raise MetadataError(f"expected at most {_MAX_BYTES} bytes in {path}")
        files[path.name] = path.read_bytes()
    return Metadata(repository, files)
