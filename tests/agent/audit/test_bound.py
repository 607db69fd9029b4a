"""How much may wait for the controller: counted to the byte, full and free told once each."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.full_disk import assert_unbroken
from simulators.sealed import journal_of
from sprat_agent.audit.journal import Fill, Journal, Room
from sprat_agent.audit.record import Record
from sprat_agent.state import State

TAG = "agent:test:written"
ROOM = Room(full_bytes=8000)


def opened(folder: Path, room: Room = ROOM) -> tuple[State, Journal]:
    state = State(folder)
    journal = journal_of(state, room=room)
    journal.begin()
    return state, journal


def tags(journal: Journal) -> list[str]:
    found = [json.loads(one.body)["tag"] for one in journal.batch(10_000, 1 << 30)]
    return [tag for tag in found if tag != TAG]


def test_it_is_full_at_its_bound_and_free_again_at_a_quarter_less(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)
    while not journal.fill().is_full:
        before = journal.fill()
        assert before.kept_bytes < ROOM.full_bytes
        journal.append(TAG, "m", {"text": "x" * 100})
    assert tags(journal) == ["agent:journal:full"]
    size = journal.next_seq() - 1
    # Nothing is dropped: what happens at the bound is recorded as before.
    for _ in range(5):
        journal.append(TAG, "m", {})
    assert journal.next_seq() - 1 == size + 5
    seq = 0
    while journal.fill().kept_bytes > ROOM.free_bytes:
        assert journal.fill().is_full
        seq += 1
        journal.acknowledge(seq)
    assert not journal.fill().is_full
    assert tags(journal) == ["agent:journal:full", "agent:journal:freed"]
    journal.append(TAG, "m", {})
    assert not journal.fill().is_full
    state.close()


def test_full_is_full_after_a_restart_until_it_is_free_or_more_may_wait(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)
    while not journal.fill().is_full:
        journal.append(TAG, "m", {})
    journal.acknowledge(1)
    assert journal.fill().is_full
    state.close()
    state, journal = opened(tmp_path)
    assert journal.fill().is_full
    assert tags(journal) == ["agent:journal:full"]
    state.close()
    state, journal = opened(tmp_path, Room(full_bytes=80_000))
    assert not journal.fill().is_full
    assert tags(journal) == ["agent:journal:full", "agent:journal:freed"]
    state.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 2000)),
            st.tuples(st.just("acknowledge"), st.integers(0, 40)),
            st.tuples(st.just("restart"), st.integers(2000, 20_000)),
        ),
        max_size=40,
    )
)
def test_what_is_counted_is_what_is_kept_and_nothing_is_ever_dropped(
    steps: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        room = ROOM
        state, journal = opened(Path(name))
        all_kept: dict[int, Record] = {}
        was_full = False
        for what, number in steps:
            match what:
                case "append":
                    journal.append(TAG, "m", {"text": "x" * number})
                case "acknowledge":
                    oldest, size = journal.oldest_unacknowledged(), journal.next_seq() - 1
                    if size >= oldest:
                        journal.acknowledge(min(oldest + number, size))
                case _:
                    state.close()
                    room = Room(full_bytes=number)
                    state, journal = opened(Path(name), room)
            kept = journal.batch(100_000, 1 << 30)
            all_kept |= {one.seq: one for one in kept}
            found = journal.fill()
            assert found == Fill(sum(len(one.body) for one in kept), found.is_full, is_short=False)
            assert sorted(all_kept) == list(range(1, journal.next_seq()))
            if was_full and not found.is_full:
                assert "agent:journal:freed" in tags(journal)
            was_full = found.is_full
        assert_unbroken([all_kept[seq] for seq in sorted(all_kept)])
        state.close()


def test_a_journal_of_an_older_agent_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)
    for _ in range(10):
        journal.append(TAG, "m", {})
    kept = journal.fill().kept_bytes
    with state.transaction() as connection:
        for column in ("kept_bytes", "is_full", "is_short"):
            connection.execute(f"ALTER TABLE audit_head DROP COLUMN {column}")
        for table in ("intent", "configuration", "counted", "started_with"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 6")
    state.close()
    state, journal = opened(tmp_path)
    assert journal.fill() == Fill(kept, is_full=False, is_short=False)
    assert journal.append(TAG, "m", {}) == 11
    state.close()
