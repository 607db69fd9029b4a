"""Files by digest: blobs, downloads under way, and installed versions. Blocking.

    blobs/sha256/ab/<hex>     whole and verified, read-only
    partial/                  whatever is not whole yet; anything in it may be removed at any time
    versions/<digest>/        manifest.json, evidence.json (what proved it), links to its blobs
    prefixes/<digest>.…       what the version's worker keeps of prompts

A name in blobs/ or versions/ appears by a rename, after its content is on disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

MANIFEST: Final = "manifest.json"
EVIDENCE: Final = "evidence.json"
PREFIXES: Final = "prefixes"  # the folder of `runtime/prefixes.py`


class Store:
    """The registry's folders under the agent's state folder."""

    def __init__(self, root: Path) -> None:
        """Make the folders; nothing else touches the disk."""
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._partial = root / "partial"
        self._versions = root / "versions"
        self._prefixes = root / PREFIXES
        for folder in (self._blobs, self._partial, self._versions):
            folder.mkdir(parents=True, exist_ok=True)

    def blob(self, sha256: str) -> Path:
        """Return where a blob is, or will be."""
        return self._blobs / sha256[:2] / sha256

    def partial(self, sha256: str) -> Path:
        """Return where a blob is while it is fetched."""
        return self._partial / f"{sha256}.part"

    def has_blob(self, sha256: str, size: int) -> bool:
        """Tell whether a blob of this size is there; its content is not read."""
        try:
            return self.blob(sha256).stat().st_size == size
        except FileNotFoundError:
            return False

    def bytes_missing(self, blobs: Iterable[tuple[str, int]]) -> int:
        """Return how many bytes of these (SHA-256, size) are still to be fetched."""
        return sum(
            size - min(size, _size_of(self.partial(sha256)))
            for sha256, size in dict(blobs).items()
            if not self.has_blob(sha256, size)
        )

    def adopt(self, sha256: str) -> None:
        """Make a blob of its partial file, whose content was verified; durable."""
        partial, blob = self.partial(sha256), self.blob(sha256)
        blob.parent.mkdir(exist_ok=True)
        partial.chmod(0o444)
        _sync(partial)
        partial.rename(blob)
        for folder in (blob.parent, self._blobs, self._partial):
            _sync(folder)

    def remove_blob(self, sha256: str) -> None:
        """Remove a blob whose content is not what its name says."""
        self.blob(sha256).unlink(missing_ok=True)

    # Versions

    def version_file(self, digest: str, name: str) -> Path:
        """Return the path of a file of a version."""
        return self._versions / digest / name

    def install(
        self, digest: str, manifest: bytes, evidence: bytes, links: Mapping[str, str]
    ) -> None:
        """Make a version's folder appear whole, in the place of one that is there; durable.

        Args:
            digest: Of the manifest.
            manifest: Its canonical bytes.
            evidence: What proves that it was released.
            links: SHA-256 of a blob by the name it is to have in the folder.
        """
        making = self._partial / f"{digest}.version"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        for name, content in ((MANIFEST, manifest), (EVIDENCE, evidence)):
            (making / name).write_bytes(content)
            (making / name).chmod(0o444)
            _sync(making / name)
        for name, sha256 in links.items():
            (making / name).symlink_to(Path("../../blobs/sha256", sha256[:2], sha256))
        _sync(making)
        self.remove_versions([digest])
        making.rename(self._versions / digest)
        _sync(self._versions)
        _sync(self._partial)

    def manifest(self, digest: str) -> bytes:
        """Return an installed version's manifest.

        Raises:
            FileNotFoundError: It is not installed.
        """
        return (self._versions / digest / MANIFEST).read_bytes()

    def evidence(self, digest: str) -> bytes:
        """Return what proved an installed version.

        Raises:
            FileNotFoundError: It is not installed.
        """
        return (self._versions / digest / EVIDENCE).read_bytes()

    def blobs_of(self, digest: str) -> frozenset[str]:
        """Return the blobs that an installed version links to."""
        folder = self._versions / digest
        links = [path for path in folder.iterdir() if path.is_symlink()]
        return frozenset(path.readlink().name for path in links)

    def versions(self) -> frozenset[str]:
        """Return the digests of what is installed."""
        return frozenset(path.name for path in self._versions.iterdir())

    # Garbage

    def remove_versions(self, digests: Iterable[str]) -> None:
        """Remove version folders; blobs stay."""
        for digest in digests:
            # A crash in between must not leave a folder that looks whole.
            (self._versions / digest / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(self._versions / digest, ignore_errors=True)

    def keep_blobs(self, sha256s: frozenset[str]) -> int:
        """Remove all other blobs; return how many bytes that freed."""
        freed = 0
        for path in self._blobs.glob("*/*"):
            if path.name not in sha256s:
                freed += _size_of(path)
                path.unlink(missing_ok=True)
        return freed

    def remove_prefixes(self) -> int:
        """Remove what was kept of prompts to versions that are gone; return the bytes it freed."""
        freed = 0
        for path in self._prefixes.glob("*"):
            if not self.version_file(path.name.partition(".")[0], MANIFEST).exists():
                freed += _size_of(path)
                path.unlink(missing_ok=True)
        return freed

    def remove_partials(self) -> int:
        """Remove whatever is not whole; return how many bytes that freed."""
        freed = 0
        for path in self._partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                freed += _size_of(path)
                path.unlink(missing_ok=True)
        return freed


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync(path: Path) -> None:
    """Bring a file's or folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
