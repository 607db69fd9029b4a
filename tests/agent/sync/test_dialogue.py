"""What a device says over one connection, and that all of it arrives over bad carriers."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.controller_end import ControllerEnd
from simulators.sealed import journal_of, root_of
from sprat_agent.state import State
from sprat_agent.sync.dialogue import (
    HELLO_AGAIN_S,
    WELCOME_PATIENCE_S,
    Dialogue,
    Voice,
    phase_of,
)
from sprat_agent.sync.flows import WINDOW, AuditFlow, ReportFlow
from sprat_agent.sync.outbox import Outbox
from sprat_proto.v1.link_pb2 import (
    AuditAck,
    ControllerMessage,
    DeviceMessage,
    ExecutionReport,
    Heartbeat,
    Hello,
    Welcome,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def believe(_ack: AuditAck) -> None:
    """Whose word it is, is tested with the wire (`test_acknowledged`)."""


class Device:
    """Outbox and journal of a device, and dialogues over them in made-up time."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        self.outbox = Outbox(self.state)
        self.journal = journal_of(self.state, lambda: NOW)
        self.now = 0.0

    def dialogue(self) -> Dialogue:
        voice = Voice("gw-1", "boot", Hello, Heartbeat)
        reports, audit = ReportFlow(self.outbox), AuditFlow(self.journal, "gw-1", believe)
        return Dialogue(voice, reports, audit, self.now)

    def welcomed(self, heartbeat_s: int = 60) -> Dialogue:
        dialogue = self.dialogue()
        list(dialogue.due(self.now))
        dialogue.welcome(Welcome(heartbeat_s=heartbeat_s), self.now)
        return dialogue

    def report(self, *states: str) -> None:
        with self.state.transaction() as connection:
            for state in states:
                self.outbox.write(connection, 0, ExecutionReport(state=state))

    def record(self, count: int, size: int = 0) -> None:
        for number in range(count):
            self.journal.append("agent:model:loaded", f"m{number}", {"text": "x" * size})


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.state.close()


def kinds(messages: Iterator[DeviceMessage]) -> list[str]:
    return [str(message.WhichOneof("body")) for message in messages]


def test_hello_comes_first_and_again_until_somebody_answers(device: Device) -> None:
    device.report("QUEUED")
    device.record(1)
    dialogue = device.dialogue()
    assert kinds(dialogue.due(0)) == ["hello"]
    assert kinds(dialogue.due(HELLO_AGAIN_S - 1)) == []
    assert kinds(dialogue.due(HELLO_AGAIN_S)) == ["hello"]
    assert dialogue.is_unanswered(WELCOME_PATIENCE_S)
    dialogue.welcome(Welcome(heartbeat_s=60), HELLO_AGAIN_S)
    assert not dialogue.is_unanswered(10 * WELCOME_PATIENCE_S)
    assert kinds(dialogue.due(HELLO_AGAIN_S)) == ["report", "audit"]


def test_a_heartbeat_comes_at_the_announced_rhythm_at_the_devices_own_moment(
    device: Device,
) -> None:
    dialogue = device.welcomed(heartbeat_s=100)
    first = phase_of("gw-1") * 100
    assert 0 < first < 100
    assert dialogue.next_due == pytest.approx(first)
    assert kinds(dialogue.due(first - 0.1)) == []
    assert kinds(dialogue.due(first)) == ["heartbeat"]
    assert dialogue.next_due == pytest.approx(first + 100)
    dialogue.beat_now(first + 5)
    assert kinds(dialogue.due(first + 5)) == ["heartbeat"]


def test_a_fleet_spreads_over_the_heartbeat() -> None:
    phases = [phase_of(f"dev-{number}") for number in range(1000)]
    for quarter in range(4):
        assert 200 < sum(quarter / 4 <= phase < (quarter + 1) / 4 for phase in phases) < 300


def test_a_new_welcome_is_asked_for_once_in_a_while_only(device: Device) -> None:
    dialogue = device.welcomed()
    for _ in range(5):
        dialogue.ask_for_welcome(1)
    assert kinds(dialogue.due(1)) == []
    assert kinds(dialogue.due(HELLO_AGAIN_S)) == ["hello"]
    dialogue.welcome(Welcome(heartbeat_s=60), HELLO_AGAIN_S)
    dialogue.ask_for_welcome(100)
    assert "hello" in kinds(dialogue.due(100))


def test_a_device_that_is_not_as_it_told_says_so_before_its_reports(device: Device) -> None:
    dialogue = device.dialogue()
    dialogue.greet_again(0)  # the first Hello is due anyway
    assert kinds(dialogue.due(0)) == ["hello"]
    dialogue.welcome(Welcome(heartbeat_s=60), 0)
    device.report("REJECTED")
    dialogue.greet_again(1)
    assert kinds(dialogue.due(1)) == ["hello", "report"]
    assert kinds(dialogue.due(2)) == []
    assert kinds(dialogue.due(1 + HELLO_AGAIN_S)) == ["hello", "report"]
    dialogue.welcome(Welcome(heartbeat_s=60), 12)
    assert "hello" not in kinds(dialogue.due(1 + 2 * HELLO_AGAIN_S))


def test_no_more_than_a_window_of_reports_is_under_way(device: Device) -> None:
    device.report(*["QUEUED"] * (WINDOW + 10))
    dialogue = device.welcomed()
    assert kinds(dialogue.due(0)) == ["report"] * WINDOW
    assert kinds(dialogue.due(1)) == []
    dialogue.reports.acknowledged(4, 1)
    assert [one.report.seq for one in dialogue.due(1)] == list(range(WINDOW + 1, WINDOW + 5))


def test_what_is_not_acknowledged_is_sent_again_less_and_less_often(device: Device) -> None:
    device.report("QUEUED", "IN_PROGRESS")
    flow = device.welcomed().reports
    times: list[float] = []
    for _ in range(6):
        flow.due(device.now)
        times.append(device.now)
        device.now = flow.next_due
    gaps = [round(after - before) for before, after in itertools.pairwise(times)]
    assert gaps == [5, 10, 20, 40, 60]
    flow.acknowledged(2, device.now)
    assert flow.due(device.now + 1000) == []


def test_acknowledgements_of_what_was_never_written_are_ignored(device: Device) -> None:
    device.report("QUEUED")
    device.record(1)
    dialogue = device.welcomed()
    list(dialogue.due(0))
    dialogue.reports.acknowledged(99, 0)
    assert device.outbox.oldest_unacknowledged() == 1
    dialogue.reports.acknowledged(0, 0)
    assert device.outbox.oldest_unacknowledged() == 1
    dialogue.reports.acknowledged(1, 0)
    device.report("SUCCEEDED")
    assert device.outbox.pending(0, 9)[0].seq == 2  # numbers are never used again


def test_a_batch_has_at_most_100_records_and_200_kb(device: Device) -> None:
    device.record(150)
    dialogue = device.welcomed()
    (message,) = dialogue.due(0)
    assert [one.seq for one in message.audit.records] == list(range(1, 101))
    assert kinds(dialogue.due(1)) == []  # one batch at a time
    dialogue.audit.acknowledged(AuditAck(up_to=100, root=root_of(message.audit.records)), 1)
    (message,) = dialogue.due(1)
    assert [one.seq for one in message.audit.records] == list(range(101, 151))


def test_a_batch_of_large_records_is_shorter(device: Device) -> None:
    device.record(10, size=60_000)
    (message,) = device.welcomed().due(0)
    assert [one.seq for one in message.audit.records] == [1, 2, 3]


@pytest.mark.parametrize("up_to", [2, 7])
def test_another_root_at_the_other_end_stops_the_upload_and_frees_nothing(
    device: Device, up_to: int
) -> None:
    device.record(3)
    dialogue = device.welcomed()
    list(dialogue.due(0))
    dialogue.audit.acknowledged(AuditAck(up_to=up_to, root=b"?" * 32), 1)
    assert kinds(dialogue.due(50)) == []
    assert device.journal.oldest_unacknowledged() == 1
    assert b"agent:audit:diverged" in device.journal.batch(9, 10**6)[-1].body


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    lose=st.floats(0, 0.6),
    repeat=st.floats(0, 0.5),
    reports=st.integers(0, 80),
    records=st.integers(0, 150),
    cuts=st.integers(0, 4),
)
def test_over_any_carrier_all_reports_and_records_arrive_once_and_in_order(
    *, seed: int, lose: float, repeat: float, reports: int, records: int, cuts: int
) -> None:
    with opened() as device:
        written = [f"S{number}" for number in range(reports)]
        device.report(*written)
        device.record(records)
        network = Network(device, random.Random(seed), lose, repeat)  # noqa: S311 - a test's dice
        # At 60 % loss each way and in any order, 80 reports take 2,000 to 4,000 made-up seconds;
        # what never ends does not end in ten times that either.
        for turn in range(40_000):
            if cuts and turn and turn % 40 == 0:
                cuts -= 1
                network.reconnect()
            network.step()
            if is_done(device):
                break
            device.now += 1.0
        assert network.end.states == written
        assert len(network.end.bodies) == records
        assert is_done(device)


class Network:
    """Brings messages both ways: some never, some twice, all in any order."""

    def __init__(self, device: Device, dice: random.Random, lose: float, repeat: float) -> None:
        self.end = ControllerEnd()
        self._device = device
        self._dice = dice
        self._lose = lose
        self._repeat = repeat
        self.reconnect()

    def reconnect(self) -> None:
        self._dialogue = self._device.dialogue()
        self._flight: list[DeviceMessage | ControllerMessage] = []

    def step(self) -> None:
        for message in self._dialogue.due(self._device.now):
            self._send(message)
        self._dice.shuffle(self._flight)
        half = len(self._flight) // 2 + 1
        arriving, self._flight = self._flight[:half], self._flight[half:]
        for message in arriving:
            self._arrive(message)

    def _send(self, message: DeviceMessage | ControllerMessage) -> None:
        if self._dice.random() >= self._lose:
            self._flight += [message] * (2 if self._dice.random() < self._repeat else 1)

    def _arrive(self, message: DeviceMessage | ControllerMessage) -> None:
        if isinstance(message, DeviceMessage):
            for answer in self.end.receive(message):
                self._send(answer)
            return
        now = self._device.now
        match message.WhichOneof("body"):
            case "welcome":
                self._dialogue.welcome(message.welcome, now)
            case "report_ack":
                self._dialogue.reports.acknowledged(message.report_ack.up_to, now)
            case "audit_ack":
                self._dialogue.audit.acknowledged(message.audit_ack, now)
            case other:
                raise AssertionError(other)


def is_done(device: Device) -> bool:
    return not device.outbox.pending(0, 1) and not device.journal.batch(1, 1)


@contextmanager
def opened() -> Generator[Device]:
    with tempfile.TemporaryDirectory() as folder:
        device = Device(Path(folder))
        try:
            yield device
        finally:
            device.state.close()
