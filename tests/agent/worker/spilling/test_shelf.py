"""The file of prefixes: whatever happens to it, it gives out what was written or nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sprat_agent.worker.spilling import states
from sprat_agent.worker.spilling.decide import Stored
from sprat_agent.worker.spilling.index import INDEX_BYTES
from sprat_agent.worker.spilling.shelf import Shelf
from sprat_agent.worker.spilling.states import CHUNK_BYTES

CHUNKS = 4
LIMIT = 2 * INDEX_BYTES + CHUNKS * CHUNK_BYTES
KEY = b"model and library"


@contextmanager
def opened() -> Generator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


@pytest.fixture
def file() -> Iterator[int]:
    with opened() as descriptor:
        yield descriptor


def content(seed: int, size: int) -> bytes:
    return (seed.to_bytes(4, "little") * (size // 4 + 1))[:size]


def put(shelf: Shelf, seed: int, size: int = CHUNK_BYTES) -> Stored:
    """Write the prefix of tokens that begin with `seed`; there is room for it."""
    one = shelf.newcomer([seed, 1, 2], size, 1.0)
    writing = shelf.writing(one, memoryview(content(seed, size)))
    while not writing.step():
        pass
    return one


def got(shelf: Shelf) -> dict[int, bool]:
    """Return which prefixes there are, and whether each is given out; if so, it is right."""
    found: dict[int, bool] = {}
    for one in shelf.stored:
        reading = shelf.reading(one)
        while not reading.is_over:
            reading.step()
        if reading.is_right:
            assert list(one.tokens) == [one.tokens[0], 1, 2]
            assert bytes(reading.state) == content(one.tokens[0], one.size)
        found[one.tokens[0]] = reading.is_right
    return found


def test_what_was_written_is_there_again(file: int) -> None:
    shelf = Shelf(file, LIMIT, KEY)
    put(shelf, 7, CHUNK_BYTES + 5)
    put(shelf, 8, 12)
    assert got(shelf) == got(Shelf(file, LIMIT, KEY)) == {7: True, 8: True}


def test_uses_and_ranks_are_there_again(file: int) -> None:
    shelf = Shelf(file, LIMIT, KEY)
    put(shelf, 7)
    (one,) = shelf.stored
    shelf.update(Stored(one.number, one.tokens, one.size, one.room, one.cost_s, 5, 0.25))
    assert shelf.is_changed
    shelf.write_index()
    (again,) = Shelf(file, LIMIT, KEY).stored
    assert (again.uses, again.rank, again.cost_s) == (5, 0.25, 1.0)


def test_a_file_of_another_key_is_empty(file: int) -> None:
    put(Shelf(file, LIMIT, KEY), 7)
    assert got(Shelf(file, LIMIT, b"another library")) == {}
    other = Shelf(file, LIMIT, b"another library")
    put(other, 8)
    assert got(Shelf(file, LIMIT, b"another library")) == {8: True}
    assert got(Shelf(file, LIMIT, KEY)) == {}


def test_the_file_is_never_longer_than_its_limit(file: int) -> None:
    shelf = Shelf(file, LIMIT + CHUNK_BYTES - 1, KEY)
    for seed in range(3):
        put(shelf, seed, shelf.room)
        shelf.remove(one.number for one in shelf.stored)
        shelf.write_index()
    assert os.fstat(file).st_size == LIMIT


def test_a_shorter_limit_forgets_what_is_beyond(file: int) -> None:
    shelf = Shelf(file, LIMIT, KEY)
    put(shelf, 7)
    put(shelf, 8)
    assert got(Shelf(file, LIMIT - (CHUNKS - 1) * CHUNK_BYTES, KEY)) == {7: True}


def test_a_limit_without_room_keeps_nothing(file: int) -> None:
    assert Shelf(file, 0, KEY).room == 0


def test_a_file_that_was_cut_gives_out_nothing_wrong(file: int) -> None:
    put(Shelf(file, LIMIT, KEY), 7, 2 * CHUNK_BYTES)
    os.ftruncate(file, 2 * INDEX_BYTES + CHUNK_BYTES)
    assert got(Shelf(file, LIMIT, KEY)) == {7: False}


def test_an_index_that_is_too_long_leaves_the_least_out(file: int) -> None:
    limit = 2 * INDEX_BYTES + 9 * CHUNK_BYTES
    shelf = Shelf(file, limit, KEY)
    for seed in range(9):
        one = shelf.newcomer([seed] * 10_000, 4, 1.0)
        one = Stored(one.number, one.tokens, 4, one.room, 1.0, 1, float(seed))
        assert shelf.writing(one, memoryview(b"data")).step()
    kept = [one.tokens[0] for one in Shelf(file, limit, KEY).stored]
    assert kept == [3, 4, 5, 6, 7, 8]


class KilledError(Exception):
    """The process ended here."""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, CHUNKS), st.booleans()), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_killed_anywhere_it_gives_out_what_was_written_or_nothing(
    orders: list[tuple[int, bool]], share: float
) -> None:
    def live(descriptor: int, write: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", write)
            shelf = Shelf(descriptor, LIMIT, KEY)
            for seed, (chunks, all_go) in enumerate(orders):
                there = list(shelf.stored)
                while (
                    sum(one.room for one in there) + chunks * CHUNK_BYTES > LIMIT - 2 * INDEX_BYTES
                ):
                    shelf.remove([there.pop(0).number])
                if all_go:
                    shelf.remove([one.number for one in there])
                put(shelf, seed, chunks * CHUNK_BYTES - 3)

    real, total = os.pwrite, 0

    def counted(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal total
        total += len(data)
        return real(descriptor, data, offset)

    with opened() as descriptor:
        live(descriptor, counted)
        assert got(Shelf(descriptor, LIMIT, KEY))[len(orders) - 1]
    left = int(total * share)

    def killing(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal left
        count = real(descriptor, data[:left], offset)
        left -= count
        if count < len(data):
            raise KilledError
        return count

    with opened() as descriptor:
        with suppress(KilledError):
            live(descriptor, killing)
        shelf = Shelf(descriptor, LIMIT, KEY)
        # Only the process was killed, so what the index names is whole.
        assert all(got(shelf).values())
        # And the file goes on.
        shelf.remove(one.number for one in shelf.stored)
        put(shelf, 99)
        assert got(Shelf(descriptor, LIMIT, KEY)) == {99: True}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_flipped_and_lost_bytes_are_found(data: st.DataObject) -> None:
    with opened() as descriptor:
        shelf = Shelf(descriptor, LIMIT, KEY)
        put(shelf, 1, CHUNK_BYTES + 9)
        put(shelf, 2, 40)
        shelf.remove([next(iter(shelf.stored)).number])
        put(shelf, 3, CHUNK_BYTES)
        size = os.fstat(descriptor).st_size
        places = st.one_of(
            st.integers(0, size - 1),
            st.integers(0, 200),
            st.integers(INDEX_BYTES, INDEX_BYTES + 200),
            st.integers(2 * INDEX_BYTES, 2 * INDEX_BYTES + 60),
        )
        for at in data.draw(st.lists(places, min_size=1, max_size=4)):
            (byte,) = os.pread(descriptor, 1, at)
            os.pwrite(descriptor, bytes([byte ^ data.draw(st.integers(1, 255))]), at)
        if data.draw(st.booleans()):
            os.ftruncate(descriptor, data.draw(st.integers(0, size)))
        got(Shelf(descriptor, LIMIT, KEY))  # looks at all that is given out


def test_a_disk_that_is_full_says_so(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(file, LIMIT, KEY)
    real, calls = os.pwrite, 0

    def full(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:100], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        states.write(file, content(1, 200), 0)
    assert got(shelf) == {}
