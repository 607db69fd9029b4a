"""The journal on disk: positions, the chain, and what acknowledgement frees."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from simulators.full_disk import assert_unbroken
from simulators.sealed import KEY, KEY_PEM, SEED, journal_of, root_of, sealed
from simulators.waiting import until
from sprat_agent.audit.journal import EventWriter, Journal
from sprat_agent.audit.sealing import Sealing
from sprat_agent.errors import StateError
from sprat_agent.state import State
from sprat_controller.audit import device_logs
from sprat_controller.audit.device_logs import Sealed, beginning
from sprat_proto import device_log
from sprat_proto.audit_seal import EPOCH, first_key
from sprat_proto.device_log import verifier

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TAG = "agent:model:loaded"


def opened(folder: Path) -> tuple[State, Journal]:
    state = State(folder)
    return state, journal_of(state, lambda: NOW)


def test_the_log_goes_on_after_a_restart_and_after_everything_was_acknowledged(
    tmp_path: Path,
) -> None:
    state, journal = opened(tmp_path)
    assert [journal.append(TAG, "m", {"n": n}) for n in range(3)] == [1, 2, 3]
    kept = journal.batch(10, 10_000)
    journal.acknowledge(3)
    assert (journal.oldest_unacknowledged(), journal.next_seq()) == (4, 4)
    state.close()
    state, journal = opened(tmp_path)
    assert journal.append(TAG, "m", {}) == 4
    kept += journal.batch(10, 10_000)
    assert_unbroken(kept)
    assert [one.seq for one in kept] == [1, 2, 3, 4]
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
    assert journal.root_at(1) is None
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
    assert_unbroken(journal.batch(1, 1))
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


async def test_whoever_writes_events_ends_when_told_to_whatever_was_just_noted(
    tmp_path: Path,
) -> None:
    state, journal = opened(tmp_path)
    for turns in range(12):
        writer = EventWriter(state, journal, lambda: NOW)
        running = asyncio.create_task(writer.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writer.note(TAG, "m", {})
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=10)
        assert done, turns
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


async def test_what_a_cancelled_writer_could_not_write_is_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while the agent stops: what fails gives way a step, and is tried again."""
    state, journal = opened(tmp_path)
    begun, going = threading.Event(), threading.Event()
    write, failing = journal.write, [StateError("disk full")] * 2

    def full(*args: object, **options: object) -> int:
        if not failing:
            return write(*args, **options)  # pyright: ignore[reportArgumentType] - passed through
        begun.set()
        assert going.wait(10)
        raise failing.pop()

    monkeypatch.setattr(journal, "write", full)
    writer = EventWriter(state, journal, lambda: NOW)
    running = asyncio.create_task(writer.run())
    writer.note(TAG, "first", {})
    await until(begun.is_set)
    running.cancel()
    writer.note(TAG, "second", {})
    await asyncio.sleep(0)
    going.set()
    await asyncio.wait({running})
    assert running.cancelled()
    with pytest.raises(StateError):
        writer.flush()
    writer.flush()
    subjects = [json.loads(one.body)["subject"] for one in journal.batch(10, 1 << 20)]
    assert subjects == ["first", "second"]
    state.close()


def test_the_root_at_a_position_is_that_of_all_records_up_to_it(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)
    for number in range(70):
        journal.append(TAG, "m", {"n": number})
    bodies = [one.body for one in journal.batch(100, 10**9)]
    expected = [root_of(sealed(bodies[:size])) for size in range(71)]
    assert [journal.root_at(size) for size in range(71)] == expected
    journal.acknowledge(33)
    assert [journal.root_at(size) for size in range(33)] == [None] * 33
    assert [journal.root_at(size) for size in range(33, 71)] == expected[33:]
    assert journal.root_at(71) is None
    checkpoint = device_log.verify(journal.checkpoint(50), "gw-1", verifier("gw-1", KEY_PEM))
    assert (checkpoint.size, checkpoint.root) == (50, expected[50])
    state.close()


def test_what_is_not_kept_is_neither_signed_nor_acknowledged(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)
    for _ in range(3):
        journal.append(TAG, "m", {})
    with pytest.raises(StateError, match="record 4"):
        journal.checkpoint(4)
    with pytest.raises(StateError, match="record 4"):
        journal.acknowledge(4)
    assert journal.oldest_unacknowledged() == 1
    state.close()


def test_a_key_that_sealed_an_epoch_is_nowhere_in_the_file_after_it(tmp_path: Path) -> None:
    """Who takes the device over cannot seal what was before (T33)."""
    state, journal = opened(tmp_path)
    keys = [first_key(SEED).at(1 + epoch * EPOCH).key for epoch in range(3)]
    for _ in range(EPOCH):
        journal.append(TAG, "m", {})
    state.close()  # the journal of the file is written back
    assert [key in (tmp_path / "agent.db").read_bytes() for key in keys] == [False, True, False]
    state, journal = opened(tmp_path)
    for _ in range(EPOCH):
        journal.append(TAG, "m", {})
    state.close()
    assert [key in (tmp_path / "agent.db").read_bytes() for key in keys] == [False, False, True]


def test_a_log_that_is_gone_begins_anew_and_is_not_taken_for_the_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = State(tmp_path)
    journal = Journal(state, lambda: NOW, Sealing("gw-1", KEY, None))
    journal.begin()
    assert "is gone" in caplog.text
    journal.append(TAG, "m", {})
    (record,) = journal.batch(1, 1)
    follow = device_logs.follow(beginning(SEED), [Sealed(record.seq, record.body, record.seal)])
    assert follow.broken is not None
    state.close()


async def test_a_journal_that_is_told_nothing_says_that_it_is_there(tmp_path: Path) -> None:
    state, journal = opened(tmp_path)
    writer = EventWriter(state, journal, lambda: NOW, alive_s=0.01)
    running = asyncio.create_task(writer.run())
    await until(lambda: journal.next_seq() > 2)
    running.cancel()
    await asyncio.wait({running})
    assert b"agent:journal:alive" in journal.batch(1, 1)[0].body
    state.close()


async def test_of_events_beyond_what_may_wait_the_number_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, journal = opened(tmp_path)
    monkeypatch.setattr("sprat_agent.audit.journal._MAX_WAITING", 3)
    monkeypatch.setattr("sprat_agent.audit.journal._RETRY_S", 0.01)
    failing = [StateError("disk full")] * 2
    write = journal.write

    def full(*args: object, **options: object) -> int:
        if failing:
            raise failing.pop()
        return write(*args, **options)  # pyright: ignore[reportArgumentType] - passed through

    monkeypatch.setattr(journal, "write", full)
    moments = iter(NOW + timedelta(seconds=number) for number in range(100))
    writer = EventWriter(state, journal, lambda: next(moments))
    first = ["agent:model:loaded"] * 4 + ["agent:model:crashed"] * 2
    for number, tag in enumerate(first):
        writer.note(tag, f"m{number}", {})
    running = asyncio.create_task(writer.run())
    # While it cannot write, more is noted: what was summed up is summed up once more.
    await until(lambda: len(failing) < 2)
    for number in range(6, 9):
        writer.note("agent:model:loaded", f"m{number}", {})
    await until(lambda: journal.next_seq() > 4)
    running.cancel()
    await asyncio.wait({running})
    records = [json.loads(one.body) for one in journal.batch(10, 1 << 20)]
    summed, *rest = records
    assert summed["tag"] == "agent:journal:summed"
    counts: Counter[str] = Counter(summed["detail"]["counts"])
    counts.update(str(one["tag"]) for one in rest)
    assert counts == Counter(first + ["agent:model:loaded"] * 3)
    kept = range(9 - len(rest), 9)
    assert [one["subject"] for one in rest] == [f"m{number}" for number in kept]
    # The first moment of the clock is the writer's own.
    assert summed["ts"] == "2026-11-24T00:00:01.000+00:00"
    assert summed["detail"]["until"] == f"2026-11-24T00:00:{kept[0]:02}.000+00:00"
    state.close()
