"""Writing a bundle: a tar of plain files that appears under its name whole, or not at all.

Every blob is compared with its hash while it is written, so that a stick is not carried to a site
for nothing. Times and owners are left out: the same contents make the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from sprat_proto import bundle

_COPY_BYTES: Final = 1 << 20


class WrongBlobError(Exception):
    """What came for a blob is not what its name says."""


def write(
    path: Path,
    small: Sequence[tuple[str, bytes]],
    blobs: Sequence[tuple[str, int]],
    source: Callable[[str, int], Iterable[bytes]],
) -> int:
    """Write a bundle and return its size in bytes. Blocking.

    Args:
        path: The new file; one that is there is replaced.
        small: Name and bytes of the members up to the blobs, in order.
        blobs: SHA-256 and size of each blob, in order.
        source: Yields a blob's bytes by SHA-256 and size.

    Raises:
        WrongBlobError: A blob has other bytes; nothing is left.
        OSError: It cannot be written; nothing is left.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with (
            partial.open("wb") as file,
            tarfile.TarFile(
                fileobj=file, mode="w", format=tarfile.GNU_FORMAT, copybufsize=_COPY_BYTES
            ) as tar,
        ):
            for name, data in small:
                tar.addfile(_entry(name, len(data)), io.BytesIO(data))
            for sha256, size in blobs:
                content = _Checked(sha256, size, iter(source(sha256, size)))
                tar.addfile(_entry(bundle.blob_name(sha256), size), content)
                content.check()
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path.stat().st_size


class _Checked(io.RawIOBase):
    """A blob as a file that tar reads, hashed on its way."""

    def __init__(self, sha256: str, size: int, chunks: Iterator[bytes]) -> None:
        self._sha256, self._size = sha256, size
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._buffer = b""
        self._got = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, as many as asked for.

        Raises:
            WrongBlobError: There are fewer than there must be.
        """
        while len(self._buffer) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise self._wrong()
            self._hash.update(chunk)
            self._got += len(chunk)
            self._buffer += chunk
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def check(self) -> None:
        """Compare all that was read with the name.

        Raises:
            WrongBlobError: It is something else, or there is more of it.
        """
        is_over = not self._buffer and not any(self._chunks)
        if not is_over or self._hash.hexdigest() != self._sha256:
            raise self._wrong()

    def _wrong(self) -> WrongBlobError:
        return WrongBlobError(
            f"expected {self._size} bytes with the SHA-256 {self._sha256}, found {self._got} with"
            f" {self._hash.hexdigest()}: publish the release again"
        )


def _entry(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info
