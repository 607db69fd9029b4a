"""The journal on disk: positions, the chain, and what acknowledgement frees."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from simulators.waiting import until
from sprat_agent.audit.journal import EventWriter, Journal
from sprat_agent.audit.record import GENESIS, chain
from sprat_agent.errors import StateError
from sprat_agent.state import State

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TAG = "agent:model:loaded"


def opened(folder: Path) -> tuple[State, Journal]:
    state = State(folder)
    return state, Journal(state, lambda: NOW)


def test_the_chain_goes_on_after_a_restart_and_after_everything_was_acknowledged(
    tmp_path: Path,
) -> None:
    state, journal = opened(tmp_path)
    assert [journal.append(TAG, "m", {"n": n}) for n in range(3)] == [1, 2, 3]
    last = journal.batch(10, 10_000)[-1]
    journal.acknowledge(3)
    assert (journal.oldest_unacknowledged(), journal.next_seq()) == (4, 4)
    state.close()
    state, journal = opened(tmp_path)
    assert journal.append(TAG, "m", {}) == 4
    (record,) = journal.batch(10, 10_000)
    assert record.hash == chain(last.hash, record.body)
    state.close()


def test_a_batch_is_the_oldest_records_within_both_limits(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)
    for _ in range(5):
        journal.append(TAG, "m", {"text": "x" * 100})
    size = len(journal.batch(1, 1)[0].body)
    assert [one.seq for one in journal.batch(3, 10**9)] == [1, 2, 3]
    assert [one.seq for one in journal.batch(9, 2 * size)] == [1, 2]
    assert [one.seq for one in journal.batch(9, 1)] == [1]  # else it would be stuck for ever
    journal.acknowledge(2)
    assert journal.hash_at(2) is None
    assert [one.seq for one in journal.batch(9, 10**9)] == [3, 4, 5]
    state.close()


def test_a_record_is_kept_exactly_if_its_transaction_is(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)

    def fail() -> None:
        with state.transaction() as connection:
            journal.write(connection, TAG, "m", {})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert journal.next_seq() == 1
    assert journal.append(TAG, "m", {}) == 1
    assert journal.batch(1, 1)[0].hash == chain(GENESIS, journal.batch(1, 1)[0].body)
    state.close()


async def test_events_are_written_in_order_without_waiting_for_the_disk(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)
    woken: list[int] = []
    journal.on_append = lambda: woken.append(journal.next_seq())
    writer = EventWriter(state, journal, lambda: NOW)
    running = asyncio.create_task(writer.run())
    for number in range(50):
        writer.note(TAG, f"m{number}", {})
    assert journal.next_seq() == 1
    await until(lambda: woken)
    assert len(journal.batch(100, 10**9)) == 50
    running.cancel()
    writer.note(TAG, "last", {})
    writer.flush()
    assert journal.next_seq() == 52
    state.close()


async def test_events_wait_while_the_disk_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, journal = opened(tmp_path)
    monkeypatch.setattr("sprat_agent.audit.journal._RETRY_S", 0.01)
    failing = [StateError("disk full")] * 2
    write = journal.write

    def full(*args: object, **options: object) -> int:
        if failing:
            raise failing.pop()
        return write(*args, **options)  # pyright: ignore[reportArgumentType] - passed through

    monkeypatch.setattr(journal, "write", full)
    writer = EventWriter(state, journal, lambda: NOW)
    running = asyncio.create_task(writer.run())
    writer.note(TAG, "first", {})
    writer.note(TAG, "second", {})
    await until(lambda: journal.next_seq() == 3)
    assert not failing
    running.cancel()
    await asyncio.wait({running})
    state.close()
