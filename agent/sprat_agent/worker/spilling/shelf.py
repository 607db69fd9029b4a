"""The file: an index twice (see `index.py`), then states in chunks of one size.

Chunks are given to a new prefix only after an index without their last owner was written. Nothing
is brought to the disk at once: after a loss of power an index may speak of chunks that were never
written. Each prefix therefore has a SHA-256 of its own over key, tokens and state, and its state is
used only when that is right.

The key stands for what a state depends upon besides the tokens. A file of another key is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sprat_agent.worker.spilling.decide import Stored
from sprat_agent.worker.spilling.index import INDEX_BYTES, Entry, Index, encode, newest, offset
from sprat_agent.worker.spilling.states import (
    CHUNK_BYTES,
    Place,
    Reading,
    Writing,
    chunks_of,
    packed,
    unpacked,
    write,
)


class Shelf:
    """The prefixes in one file. Its methods raise OSError where the disk does."""

    def __init__(self, descriptor: int, limit: int, key: bytes) -> None:
        """Read the index.

        Args:
            descriptor: Of the file, open for reading and writing; nobody else writes it.
            limit: Bytes that the file may have.
            key: What states depend upon.
        """
        self._descriptor = descriptor
        self._key = key
        self._count = max(limit - 2 * INDEX_BYTES, 0) // CHUNK_BYTES
        self._stored: dict[int, Stored] = {}
        self._places: dict[int, Place] = {}
        self._number = 0
        self._generation, index = newest(descriptor)
        if index and index.key == key:
            self._adopt(index.entries)
        self.is_changed = False  # since the index was written

    @property
    def room(self) -> int:
        """How many bytes there are for states."""
        return self._count * CHUNK_BYTES

    @property
    def stored(self) -> Sequence[Stored]:
        """All prefixes."""
        return tuple(self._stored.values())

    def newcomer(self, tokens: Sequence[int], size: int, cost_s: float) -> Stored:
        """Return what a prefix would be in this file."""
        self._number += 1
        return Stored(self._number, tokens, size, chunks_of(size) * CHUNK_BYTES, cost_s)

    def update(self, one: Stored) -> None:
        """Take new uses and a new rank."""
        if one.number in self._stored:
            self._stored[one.number] = one
            self.is_changed = True

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget prefixes."""
        for number in numbers:
            if self._stored.pop(number, None):
                del self._places[number]
                self.is_changed = True

    def writing(self, one: Stored, state: memoryview) -> Writing:
        """Begin to write a prefix; only one is written at a time.

        There is room for it: those that give way were removed.
        """
        if self.is_changed:
            self.write_index()
        owned = {chunk for place in self._places.values() for chunk in place.chunks}
        free = [chunk for chunk in range(self._count) if chunk not in owned]

        def add(place: Place) -> None:
            self._stored[one.number] = one
            self._places[one.number] = place
            self.write_index()

        return Writing(
            self._descriptor, self._key, one, state, free[: chunks_of(one.size)], on_end=add
        )

    def reading(self, one: Stored) -> Reading:
        """Begin to read the state of a prefix."""
        return Reading(self._descriptor, self._key, one, self._places[one.number])

    def write_index(self) -> None:
        """Write what there is; the prefixes of least rank are left out if it is too long."""
        generation = self._generation + 1
        while (data := encode(generation, self._index())) is None:
            self.remove([min(self._stored.values(), key=lambda one: one.rank).number])
        write(self._descriptor, data, offset(generation))
        self._generation = generation
        self.is_changed = False

    def _index(self) -> Index:
        return Index(self._key, tuple(map(self._entry, self.stored)))

    def _entry(self, one: Stored) -> Entry:
        place = self._places[one.number]
        return Entry(
            packed(one.tokens),
            one.size,
            packed(place.chunks),
            place.digest,
            one.cost_s,
            one.uses,
            one.rank,
        )

    def _adopt(self, entries: Iterable[Entry]) -> None:
        """Take in what an index says, but for what is not in a file of this length."""
        owned: set[int] = set()
        for entry in entries:
            chunks = unpacked(entry.chunks)
            one = self.newcomer(unpacked(entry.tokens), entry.size, entry.cost_s)
            is_own = len(owned.union(chunks)) == len(owned) + len(chunks)
            is_inside = all(0 <= chunk < self._count for chunk in chunks)
            if is_own and is_inside and len(chunks) == chunks_of(one.size) > 0:
                owned.update(chunks)
                self._stored[one.number] = replace(one, uses=entry.uses, rank=entry.rank)
                self._places[one.number] = Place(chunks, entry.digest)
