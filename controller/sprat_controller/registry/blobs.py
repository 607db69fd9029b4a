"""The blob store: immutable files by SHA-256, `sha256/ab/<hex>`, whole or not there at all.

What arrives is hashed while it is written to `incoming/`, flushed, and only then moved to its name,
so a truncated or other upload leaves nothing, and so does a crash (see `clear_incoming`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

from sprat_proto.audit_events import Tag
from sqlmodel import Session

from sprat_controller.audit import log
from sprat_controller.errors import NotFoundError, RefusedError
from sprat_controller.store.tables import Blob

# Left free, so that a full disk stops uploads and not the database.
DISK_RESERVE_BYTES: Final = 256 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class NoSpaceError(RefusedError):
    """The disk of the blob store is full."""

    status = 507


class BlobStore:
    """Files by digest below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"

    def clear_incoming(self) -> None:
        """Remove what an interrupted process left; only while nobody uploads."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        for path in self._incoming.iterdir():
            path.unlink()

    def path(self, sha256: str) -> Path:
        """Return where the blob is, or would be; `sha256` must be 64 lower-case hex digits."""
        if _SHA256.fullmatch(sha256) is None:
            raise ValueError(f"expected 64 lower-case hex digits, found {sha256[:80]!r}")
        return self._folder / "sha256" / sha256[:2] / sha256

    def find(self, sha256: str) -> Path:
        """Return the file of a blob.

        Raises:
            NotFoundError: It is not here.
        """
        path = self.path(sha256)
        if not path.is_file():
            raise NotFoundError("blob_not_found", f"there is no blob with the SHA-256 {sha256}")
        return path

    def begin(self, sha256: str, expected_size: int | None) -> Upload:
        """Start to receive a blob.

        Args:
            sha256: What it must have in the end.
            expected_size: In bytes, if it was announced.

        Raises:
            NoSpaceError: It would not fit on the disk.
        """
        self._incoming.mkdir(parents=True, exist_ok=True)
        usage = os.statvfs(self._incoming)
        free = usage.f_bavail * usage.f_frsize - DISK_RESERVE_BYTES
        if (expected_size or 0) > free:
            raise NoSpaceError(
                "no_space",
                f"expected room for {expected_size} bytes in the blob store, found {max(free, 0)}:"
                " make room on the controller's disk",
            )
        return Upload(self.path(sha256), sha256, self._incoming)


class Upload:
    """A blob on its way in. All methods block."""

    def __init__(self, target: Path, sha256: str, incoming: Path) -> None:
        """Open a temporary file; `finish` or `abort` must follow."""
        descriptor, name = tempfile.mkstemp(dir=incoming)
        self._file = os.fdopen(descriptor, "wb")
        self._path = Path(name)
        self._target = target
        self._expected = sha256
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Take in the next bytes.

        Raises:
            NoSpaceError: The disk is full.
        """
        self._hash.update(data)
        self._size += len(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise _no_space(error) from error

    def finish(self) -> int:
        """Check the digest, make the blob visible and durable, and return its size in bytes.

        A blob that is there already is replaced: if it was damaged, it is whole again.

        Raises:
            RefusedError: `digest_mismatch`; nothing is left.
            NoSpaceError: The disk is full; nothing is left.
        """
        found = self._hash.hexdigest()
        if found != self._expected:
            self.abort()
            raise RefusedError(
                "digest_mismatch",
                f"expected bytes with the SHA-256 {self._expected}, found {self._size} bytes with"
                f" {found}: send the file again, whole",
                {"expected": self._expected, "found": found, "size": self._size},
            )
        try:
            self._publish()
        except OSError as error:
            self.abort()
            raise _no_space(error) from error
        return self._size

    def abort(self) -> None:
        """Leave nothing; after `finish` nothing happens."""
        with contextlib.suppress(OSError):  # what a full disk did not take is not wanted any more
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _publish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.chmod(0o444)
        folder = self._target.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._path.replace(self._target)
        for durable in (folder, folder.parent):
            _sync_folder(durable)


def register(session: Session, sha256: str, size: int, *, actor: str, now: datetime) -> bool:
    """Note that a blob is here, whole, and who brought it; return whether it is new."""
    row = session.get(Blob, sha256)
    if row is not None:
        return False
    session.add(Blob(sha256=sha256, size=size, created_at=now))
    log.append(
        session,
        Tag.BLOB_KEPT,
        at=now,
        actor=actor,
        subject=f"blob/{sha256}",
        after=sha256,
        detail={"size": size},
    )
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_space(error: OSError) -> NoSpaceError:
    return NoSpaceError("no_space", f"the blob store cannot write: {error.strerror or error}")
