"""States on their way into the file and out of it, a chunk at a time."""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sprat_agent.worker.spilling.decide import Stored
from sprat_agent.worker.spilling.index import INDEX_BYTES

CHUNK_BYTES: Final = 256 << 10


@dataclass(frozen=True)
class Place:
    """Where the state of a prefix is, and what it hashes to."""

    chunks: Sequence[int]
    digest: bytes


class Writing:
    """Writes a state; `on_end` hears of its place."""

    def __init__(
        self,
        descriptor: int,
        key: bytes,
        one: Stored,
        state: memoryview,
        chunks: Sequence[int],
        *,
        on_end: Callable[[Place], None],
    ) -> None:
        self.stored = one
        self._descriptor = descriptor
        self._state = state
        self._chunks = chunks
        self._on_end = on_end
        self._at = 0
        self._digest = hashlib.sha256(_named(key, one))

    def step(self) -> bool:
        """Write the next chunk; tell whether it was the last.

        Raises:
            OSError: The disk is full or broken.
        """
        part = self._state[self._at * CHUNK_BYTES :][:CHUNK_BYTES]
        write(self._descriptor, part, _offset(self._chunks[self._at]))
        self._digest.update(part)
        self._at += 1
        if self._at < len(self._chunks):
            return False
        self._on_end(Place(self._chunks, self._digest.digest()))
        return True


class Reading:
    """Reads a state."""

    def __init__(self, descriptor: int, key: bytes, one: Stored, place: Place) -> None:
        self.stored = one
        self.state = memoryview(bytearray(one.size))
        self._descriptor = descriptor
        self._place = place
        self._at = 0
        self._digest = hashlib.sha256(_named(key, one))

    @property
    def is_over(self) -> bool:
        """All of it was read."""
        return self._at == len(self._place.chunks)

    @property
    def is_right(self) -> bool:
        """It is what was written, for these tokens under this key."""
        return self.is_over and self._digest.digest() == self._place.digest

    def step(self) -> None:
        """Read the next chunk.

        Raises:
            OSError: The disk is broken.
        """
        part = self.state[self._at * CHUNK_BYTES :][:CHUNK_BYTES]
        offset = _offset(self._place.chunks[self._at])
        done = 0
        while done < len(part):
            count = os.preadv(self._descriptor, [part[done:]], offset + done)
            if not count:
                break  # the file ends before: what is missing stays zero, and the hash wrong
            done += count
        self._digest.update(part)
        self._at += 1


def chunks_of(size: int) -> int:
    """Return how many chunks a state takes."""
    return -(-size // CHUNK_BYTES)


def write(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it; a disk that becomes full takes a part first, and then raises OSError."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def packed(numbers: Sequence[int]) -> bytes:
    """Return numbers as bytes, 32 bits each."""
    return array("i", numbers).tobytes()


def unpacked(data: bytes) -> list[int]:
    """Return the numbers again."""
    return array("i", data[: len(data) // 4 * 4]).tolist()


def _offset(chunk: int) -> int:
    return 2 * INDEX_BYTES + chunk * CHUNK_BYTES


def _named(key: bytes, one: Stored) -> bytes:
    """Return what is hashed before a state, so that it counts for nothing else."""
    return key + struct.pack("<IQ", len(one.tokens), one.size) + packed(one.tokens)
