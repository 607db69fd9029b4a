"""What applications did, from the moment it is told to the records that tell it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.full_disk import FullState
from simulators.sealed import journal_of
from simulators.waiting import until
from sprat_agent.audit.access import Access
from sprat_agent.audit.accounts import Accounts
from sprat_agent.audit.inference import Inference, Outcome
from sprat_agent.audit.journal import EventWriter, Journal, Room
from sprat_agent.errors import StateError
from sprat_agent.state import State

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
ONE = Inference(
    model="tiny@1.0.0+q4_0",
    alias="assistant",
    digest="ab" * 32,
    adapter="",
    caller="loopback",
    dialect="openai",
    operation="chat",
    outcome=Outcome.ANSWERED,
    tokens_in=3,
    tokens_out=2,
    ms=10,
)


class Device:
    """One state folder, over several lives of an agent."""

    def __init__(self, folder: Path) -> None:
        self.now = NOON
        self._folder = folder
        self.open()

    def open(self, one_in: int = 0) -> None:
        self.state = State(self._folder)
        self.journal: Journal = journal_of(self.state, lambda: self.now)
        self.events = EventWriter(self.state, self.journal, lambda: self.now)
        self.accounts = Accounts(
            self.state,
            self.journal,
            self.events,
            clock=lambda: self.now,
            draw=lambda: 0.5,
            one_in=one_in,
            save_s=0.01,
            save_access_s=0.05,
        )

    def kill(self) -> None:
        """Lose what is in memory alone."""
        self.state.close()
        self.open()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(one.body) for one in self.journal.batch(1000, 10**9)]

    def kept(self) -> bytes:
        with self.state.reading() as connection:
            row = connection.execute("SELECT body FROM counted").fetchone()
        return row[0] if row else b""


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.state.close()


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_an_hour_becomes_records_when_it_has_ended(device: Device) -> None:
    running = asyncio.create_task(device.accounts.run())
    device.accounts.inferred(ONE)
    device.accounts.inferred(replace(ONE, ms=30))
    device.accounts.accessed(Access("loopback", "openai", "2xx"))
    await until(device.kept)
    assert device.records() == []
    device.now += timedelta(hours=1)
    device.accounts.accessed(Access("loopback", "openai", "4xx", "host_not_allowed"))
    await until(device.records)
    access, inference = device.records()
    assert (access["tag"], access["subject"]) == ("application:access:summed", "api/openai")
    assert access["detail"] == {
        "hour": "2026-11-26T12:00+00:00",
        "caller": "loopback",
        "status": "2xx",
        "count": 1,
    }
    assert inference["tag"] == "application:inference:summed"
    assert inference["subject"] == "tiny@1.0.0+q4_0"
    assert inference["detail"] == {
        "hour": "2026-11-26T12:00+00:00",
        "digest": "ab" * 32,
        "caller": "loopback",
        "outcome": "answered",
        "count": 2,
        "tokens_in": 6,
        "tokens_out": 4,
        "ms": 40,
        "ms_max": 30,
    }
    await ended(running)
    device.accounts.close()
    assert [one["detail"]["status"] for one in device.records()[2:]] == ["4xx"]


async def test_who_looks_every_few_seconds_has_nothing_written(tmp_path: Path) -> None:
    device = Device(tmp_path)
    rare = Accounts(
        device.state,
        device.journal,
        device.events,
        clock=lambda: device.now,
        draw=lambda: 0.5,
        save_s=0.0,
    )
    running = asyncio.create_task(rare.run())
    for _ in range(100):
        rare.accessed(Access("loopback", "metrics", "2xx"))
        await asyncio.sleep(0)
    assert device.kept() == b""
    rare.inferred(ONE)
    await until(device.kept)  # and the rest with it
    assert b'"count":100' in device.kept()
    await ended(running)
    device.state.close()


async def test_what_was_saved_survives_a_kill_and_is_told_once(device: Device) -> None:
    running = asyncio.create_task(device.accounts.run())
    device.accounts.inferred(ONE)
    await until(device.kept)
    await ended(running)
    for _ in range(3):
        device.kill()
    device.accounts.inferred(ONE)
    device.accounts.close()
    assert [one["detail"]["count"] for one in device.records()] == [2]
    device.kill()
    device.accounts.close()
    assert len(device.records()) == 1


def test_what_could_not_be_written_at_the_end_is_written_when_tried_again(device: Device) -> None:
    full = FullState(device.state)
    device.accounts.inferred(ONE)
    full.fill()
    with pytest.raises(StateError):
        device.accounts.close()
    full.empty()
    device.accounts.close()
    assert [one["detail"]["count"] for one in device.records()] == [1]
    device.accounts.close()
    assert len(device.records()) == 1


async def test_while_the_disk_is_full_it_is_counted_on(device: Device) -> None:
    full = FullState(device.state)
    running = asyncio.create_task(device.accounts.run())
    device.accounts.inferred(ONE)
    full.fill()
    device.now += timedelta(hours=1)
    device.accounts.inferred(ONE)
    await until(lambda: full.refused > 2)
    full.empty()
    await until(device.records)
    await ended(running)
    device.accounts.close()
    found = [(one["detail"]["hour"][11:13], one["detail"]["count"]) for one in device.records()]
    assert found == [("12", 1), ("13", 1)]


async def test_a_stop_in_the_middle_of_a_save_tells_nothing_twice(device: Device) -> None:
    for number in range(20):
        device.accounts.inferred(replace(ONE, caller=f"uid:{number}"))
        device.now += timedelta(minutes=50)
        running = asyncio.create_task(device.accounts.run())
        for _ in range(number):
            await asyncio.sleep(0)
        await ended(running)
        device.accounts.close()
        device.kill()
    device.accounts.close()
    found = [one["detail"]["caller"] for one in device.records()]
    assert found == [f"uid:{number}" for number in range(20)]


def test_each_goes_the_way_of_all_events(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.state.close()
    device.open(one_in=1)
    content = {"prompt": {"text": "what a policy allows"}}
    device.accounts.inferred(ONE, content)
    device.accounts.inferred(replace(ONE, outcome=Outcome.FAILED, reason="queue_full"), None)
    device.accounts.inferred(replace(ONE, outcome=Outcome.CANCELED), None)
    device.events.flush()
    device.accounts.close()
    answered, failed, canceled = device.records()
    assert (answered["tag"], answered["outcome"]) == ("application:inference:answered", "success")
    assert answered["detail"]["prompt"] == {"text": "what a policy allows"}
    assert (failed["tag"], failed["outcome"]) == ("application:inference:failed", "failure")
    assert canceled["tag"] == "application:inference:canceled"
    device.state.close()


async def test_while_the_journal_is_full_there_are_sums_alone(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.state.close()
    device.open(one_in=1)
    device.journal.room = Room(full_bytes=4000)
    running = asyncio.create_task(device.accounts.run())
    device.accounts.inferred(ONE)
    device.events.flush()
    device.journal.append("agent:test:written", "test", {"text": "x" * 4000})
    device.accounts.accessed(Access("loopback", "openai", "2xx"))
    await until(device.kept)
    await ended(running)
    device.accounts.inferred(ONE)
    device.accounts.inferred(ONE)
    device.events.flush()
    assert [one["tag"] for one in device.records()] == [
        "application:inference:answered",
        "agent:test:written",
        "agent:journal:full",
    ]
    device.journal.acknowledge(3)
    kept = device.kept()
    running = asyncio.create_task(device.accounts.run())
    device.accounts.accessed(Access("loopback", "openai", "2xx"))
    await until(lambda: device.kept() != kept)
    await ended(running)
    device.accounts.inferred(ONE)
    device.events.flush()
    device.accounts.close()
    counts = {one["tag"]: one["detail"].get("count") for one in device.records()}
    assert counts == {
        "agent:journal:freed": None,
        "application:inference:answered": None,
        "application:access:summed": 2,
        "application:inference:summed": 2,
    }
    device.state.close()


def test_what_is_not_drawn_is_summed(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.state.close()
    device.open(one_in=10)  # 0.5 is drawn, always
    for _ in range(4):
        device.accounts.inferred(ONE, {"prompt": {"text": "canary"}})
    device.events.flush()
    device.accounts.close()
    (record,) = device.records()
    assert record["detail"]["count"] == 4
    assert "canary" not in str(record)
    device.state.close()


def test_sums_that_cannot_be_read_are_said_in_one_sentence(device: Device) -> None:
    with device.state.transaction() as connection:
        connection.execute("INSERT INTO counted VALUES (1, ?)", (b"{}",))
    with pytest.raises(StateError, match=r"expected sums in agent\.db"):
        device.kill()
