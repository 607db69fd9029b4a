"""The room that the audit log has on a full disk: given up by steps, and whole again in the end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.full_disk import assert_unbroken, fill, small_disk
from simulators.sealed import journal_of
from sprat_agent.audit.journal import Room
from sprat_agent.errors import StateError
from sprat_agent.reserve import AGAIN_BYTES, FILE, FLOOR_BYTES, STEP_BYTES, Reserve
from sprat_agent.state import State

MIB = 1 << 20
DISK = 16 * MIB
SIZE = 4 * MIB


class Disk:
    """So many bytes, of which others have some and a file of reserve has what it is long."""

    def __init__(self, size: int = 32 * MIB) -> None:
        self.size = size
        self.others = 0

    def free(self, folder: Path) -> int:
        reserved = folder / FILE
        held = reserved.stat().st_size if reserved.exists() else 0
        return max(0, self.size - self.others - held)


def test_it_has_its_blocks_from_the_start_and_keeps_them_over_a_restart(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, SIZE)
    assert reserve.is_whole
    found = (tmp_path / FILE).stat()
    assert (found.st_size, found.st_blocks * 512 >= SIZE) == (SIZE, True)
    disk = Disk()
    disk.others = disk.size - SIZE - FLOOR_BYTES
    assert Reserve(tmp_path, SIZE, disk.free).is_whole


def test_a_file_with_holes_reserves_nothing(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.truncate(SIZE)
    assert not Reserve(tmp_path, SIZE, lambda _: SIZE).is_whole
    assert Reserve(tmp_path, SIZE).is_whole


def test_a_reserve_of_nothing_is_whole_and_takes_nothing(tmp_path: Path) -> None:
    Reserve(tmp_path, SIZE)
    reserve = Reserve(tmp_path, 0, lambda _: 0)
    reserve.give_way()
    assert reserve.is_whole
    assert (tmp_path / FILE).stat().st_size == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 32 * MIB), max_size=20))
def test_it_gives_what_there_is_and_takes_back_only_what_nobody_needs(used: Sequence[int]) -> None:
    disk = Disk()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reserve = Reserve(folder, SIZE, disk.free)
        for others in used:
            disk.others = min(others, disk.size - reserve.held_bytes)
            before, free = reserve.held_bytes, disk.free(folder)
            reserve.look()
            assert 0 <= reserve.held_bytes <= SIZE
            assert reserve.held_bytes == (folder / FILE).stat().st_size
            if free < FLOOR_BYTES:
                assert reserve.held_bytes == max(0, before - STEP_BYTES)
                assert disk.free(folder) >= FLOOR_BYTES or before < STEP_BYTES
            elif reserve.held_bytes > before:
                assert reserve.is_whole
                assert disk.free(folder) >= AGAIN_BYTES
            else:
                assert reserve.held_bytes == before
        disk.others = 0
        reserve.look()
        assert reserve.is_whole


def test_what_fails_for_want_of_space_gives_a_step_to_the_next_try(tmp_path: Path) -> None:
    """As under a quota, which the file system does not tell of."""
    reserve = Reserve(tmp_path, SIZE, lambda _: 1 << 40)
    state = State(tmp_path, reserve)
    with state.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def write() -> None:
        with state.transaction() as connection:
            connection.execute("INSERT INTO metadata VALUES ('a', 'b', 1, zeroblob(100000))")

    with pytest.raises(StateError, match="full"):
        write()
    assert reserve.held_bytes == SIZE - STEP_BYTES
    state.close()


def test_t47_on_a_full_disk_the_audit_log_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    """A real file system, filled to its last block; also by somebody who writes on and on."""
    with small_disk(tmp_path / "disk", DISK) as folder:
        reserve = Reserve(folder, SIZE)
        state = State(folder, reserve)
        journal = journal_of(state, room=Room(reserve=reserve))
        journal.begin()
        filler = fill(folder, 0)
        assert reserve.free_bytes() == 0
        written = [journal.append("agent:test:written", "test", {"n": n}) for n in range(50)]
        assert not reserve.is_whole
        assert journal.fill().is_short
        # Restarted on a full disk: opened, and gone on with.
        state.close()
        fill_on(folder)
        reserve = Reserve(folder, SIZE)
        state = State(folder, reserve)
        journal = journal_of(state, room=Room(reserve=reserve))
        while reserve.held_bytes:
            fill_on(folder)
            with suppress(StateError):
                written.append(journal.append("agent:test:written", "test", {"text": "x" * 9000}))
        assert len(written) > 55
        for more in folder.glob("more-*"):
            more.unlink()
        filler.unlink()
        written.append(journal.append("agent:test:written", "test", {}))
        assert reserve.is_whole
        assert not journal.fill().is_short
        kept = journal.batch(100_000, 1 << 30)
        state.close()
        assert_unbroken(kept)
        assert {one.seq for one in kept} >= set(written)
        tags = [json.loads(one.body)["tag"] for one in kept]
        assert tags.count("agent:reserve:given") == 1
        assert tags[-1] == "agent:reserve:restored"


def fill_on(folder: Path) -> None:
    """Take what is free by now, as somebody does who writes without end."""
    try:
        with (folder / f"more-{len(list(folder.iterdir()))}").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
