"""One blob while it is fetched: every piece is verified as it arrives. Blocking.

What is on disk may be resumed: at opening, pieces are hashed again and whatever follows the last
good whole piece is cut off.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sprat_proto.states import ReasonCode

from sprat_agent.registry.blocking import Stop
from sprat_agent.sync.ports import ExecutionError

_READ_BYTES: Final = 1 << 20
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Blob:
    """A blob to fetch and the SHA-256 of each of its pieces."""

    what: str  # for messages: "shard 1 of qwen3@1.0.0+q4_0"
    sha256: str
    size: int
    piece_size: int
    pieces: Sequence[str]

    @property
    def name(self) -> str:
        """What it is and the beginning of its digest."""
        return f"{self.what} (blob {self.sha256[:12]})"


class PartialFile:
    """Appends verified pieces to a file; `offset` is where the next byte goes."""

    def __init__(self, blob: Blob, path: Path, stop: Stop) -> None:
        """Open what is there, verified, or begin anew."""
        self._blob = blob
        self._whole = hashlib.sha256()
        self._whole_before_piece = self._whole.copy()
        self._piece = hashlib.sha256()
        self.offset = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._resume(stop)
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        """Append bytes as they arrive.

        Raises:
            ExecutionError: DIGEST_MISMATCH at the end of a piece that is not what was signed (it
                is cut off again), SIZE_MISMATCH, INSUFFICIENT_DISK.
        """
        if self.offset + len(data) > self._blob.size:
            raise size_mismatch(self._blob, f"at least {self.offset + len(data)}")
        view = memoryview(data)
        while view:
            number, end = self._piece_here()
            part = view[: end - self.offset]
            self._append(part)
            view = view[len(part) :]
            if self.offset == end:
                self._finish(number)

    def restart(self) -> None:
        """Forget all that is there."""
        self._cut(0)
        self._whole = hashlib.sha256()
        self._whole_before_piece = self._whole.copy()

    def is_whole(self) -> bool:
        """Tell whether every byte is there."""
        return self.offset == self._blob.size

    def check_whole(self) -> None:
        """Compare the whole file with the blob's name.

        Raises:
            ExecutionError: DIGEST_MISMATCH: the pieces are as listed, and still it is another file.
        """
        found = self._whole.hexdigest()
        if found != self._blob.sha256:
            raise _digest_mismatch(self._blob, "as a whole", self._blob.sha256, found)

    def close(self) -> None:
        """Close the file; what it holds stays."""
        os.close(self._file)

    def _piece_here(self) -> tuple[int, int]:
        """Return the number of the piece that `offset` is in, and where it ends."""
        number = self.offset // self._blob.piece_size
        return number, min((number + 1) * self._blob.piece_size, self._blob.size)

    def _append(self, part: memoryview) -> None:
        written = 0
        try:
            while written < len(part):
                written += os.pwrite(self._file, part[written:], self.offset + written)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise _no_space(self._blob, self.offset) from error
            raise
        self._take(part)

    def _take(self, part: memoryview) -> None:
        self._piece.update(part)
        self._whole.update(part)
        self.offset += len(part)

    def _finish(self, number: int) -> None:
        found = self._piece.hexdigest()
        if found != self._blob.pieces[number]:
            self._cut(number * self._blob.piece_size)
            where = f"in piece {number + 1} of {len(self._blob.pieces)}"
            raise _digest_mismatch(self._blob, where, self._blob.pieces[number], found)
        self._piece = hashlib.sha256()
        self._whole_before_piece = self._whole.copy()

    def _cut(self, offset: int) -> None:
        os.ftruncate(self._file, offset)
        self.offset = offset
        self._piece = hashlib.sha256()
        self._whole = self._whole_before_piece.copy()

    def _resume(self, stop: Stop) -> None:
        size = min(os.fstat(self._file).st_size, self._blob.size)
        try:
            while self.offset < size:
                stop.check()
                number, end = self._piece_here()
                data = os.pread(self._file, min(_READ_BYTES, end - self.offset), self.offset)
                if not data:
                    break
                self._take(memoryview(data))
                if self.offset == end:
                    self._finish(number)
        except ExecutionError:
            return  # a piece was damaged on disk: it was cut off and will be fetched again
        number, end = self._piece_here()
        if self.offset != end:
            self._cut(number * self._blob.piece_size)


def size_mismatch(blob: Blob, found: str) -> ExecutionError:
    """Return the refusal of a blob of the wrong size, in bytes."""
    return ExecutionError(
        ReasonCode.SIZE_MISMATCH,
        f"{blob.name} is to have {blob.size} bytes and the source has {found}: refusing it",
        expected=f"{blob.size} bytes",
        found=f"{found} bytes",
    )


def _digest_mismatch(blob: Blob, where: str, expected: str, found: str) -> ExecutionError:
    return ExecutionError(
        ReasonCode.DIGEST_MISMATCH,
        f"{blob.name} is not what was signed {where}: expected SHA-256 {expected[:12]}, found"
        f" {found[:12]}: refusing it",
        expected=expected,
        found=found,
    )


def _no_space(blob: Blob, offset: int) -> ExecutionError:
    return ExecutionError(
        ReasonCode.INSUFFICIENT_DISK,
        f"{blob.name} needs {blob.size} bytes and the disk was full after {offset}: free some space"
        " and roll out again",
        expected=f"{blob.size} bytes",
        found=f"{offset} bytes",
    )
