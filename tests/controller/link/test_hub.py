"""The hub: who is connected, what is told in which order, and what happens when it is too much."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.receiver import RecordingReceiver
from sprat_controller.link import hub as hub_module
from sprat_controller.link.hub import Hub, SessionClosedError
from sprat_controller.link.lanes import Lanes
from sprat_proto import link
from sprat_proto.v1.link_pb2 import Assignment, ControllerMessage, ReportAck


def acknowledged(up_to: int) -> ControllerMessage:
    return ControllerMessage(report_ack=ReportAck(up_to=up_to))


def assigned(version: int) -> ControllerMessage:
    return ControllerMessage(assignment=Assignment(version=version))


class Box:
    """A mailbox that remembers."""

    def __init__(self) -> None:
        self.delivered: list[tuple[str, ControllerMessage]] = []

    def deliver(self, device_id: str, message: ControllerMessage) -> None:
        self.delivered.append((device_id, message))


async def settle() -> None:
    """Let what was scheduled from another thread run."""
    await asyncio.sleep(0)


async def test_a_push_from_a_thread_reaches_the_session() -> None:
    hub = Hub()
    session = hub.open("a", "grpc", RecordingReceiver())
    await asyncio.to_thread(hub.push, "a", acknowledged(1))
    assert await session.next() == acknowledged(1)
    await hub.lanes.drain()


async def test_a_push_before_anything_connected_is_nothing() -> None:
    Hub().push("a", acknowledged(1))


async def test_a_push_for_a_device_that_is_away_is_nothing() -> None:
    hub = Hub()
    session = hub.open("a", "grpc", RecordingReceiver())
    hub.push("b", acknowledged(1))
    hub.push("a", acknowledged(2))
    assert await session.next() == acknowledged(2)
    await hub.lanes.drain()


def test_a_push_after_the_loop_ended_is_nothing() -> None:
    hub = Hub()

    async def connect() -> None:
        hub.open("a", "grpc", RecordingReceiver())
        await hub.lanes.drain()

    asyncio.run(connect())
    hub.push("a", acknowledged(1))


async def test_a_push_that_no_carrier_takes_is_refused() -> None:
    too_much = ControllerMessage(assignment=Assignment(targets=b"x" * link.MAX_MESSAGE_BYTES))
    with pytest.raises(link.MessageTooLargeError):
        Hub().push("a", too_much)


async def test_a_mailbox_gets_what_is_pushed_connected_or_not() -> None:
    hub, box = Hub(), Box()
    hub.attach(box)
    hub.open("a", "grpc", RecordingReceiver())
    hub.push("a", assigned(1))
    hub.push("b", assigned(2))
    await settle()
    hub.detach(box)
    hub.push("b", assigned(3))
    await settle()
    assert box.delivered == [("a", assigned(1)), ("b", assigned(2))]
    await hub.lanes.drain()


async def test_the_end_of_the_older_session_is_told_before_the_newer() -> None:
    hub, receiver = Hub(), RecordingReceiver()
    older = hub.open("a", "grpc", receiver)
    newer = hub.open("a", "grpc", receiver)
    with pytest.raises(SessionClosedError, match="newer connection"):
        await older.next()
    hub.close(older)
    hub.push("a", acknowledged(1))
    assert await newer.next() == acknowledged(1)
    hub.close(newer)
    await hub.lanes.drain()
    assert receiver.what_happened("a") == ["connected", "disconnected"] * 2


async def test_the_end_of_a_session_is_told_once() -> None:
    hub, receiver = Hub(), RecordingReceiver()
    session = hub.open("a", "grpc", receiver)
    hub.end("a", "revoked")
    with pytest.raises(SessionClosedError, match="revoked"):
        await session.next()
    hub.close(session)
    await hub.lanes.drain()
    assert receiver.what_happened("a") == ["connected", "disconnected"]


async def test_a_device_that_reads_nothing_is_ended() -> None:
    hub = Hub()
    session = hub.open("a", "grpc", RecordingReceiver())
    for number in range(hub_module.OUTBOX_LIMIT):
        session.put(acknowledged(number))
    assert not session.is_closed
    session.put(acknowledged(0))
    with pytest.raises(SessionClosedError, match="unread"):
        await session.next()
    await hub.lanes.drain()


@given(st.lists(st.sampled_from("abc"), max_size=30))
async def test_calls_of_a_device_run_one_after_the_other_in_order(devices: list[str]) -> None:
    lanes = Lanes()
    done: list[tuple[str, int]] = []
    running: set[str] = set()

    def call(device: str, number: int) -> None:
        assert device not in running
        running.add(device)
        done.append((device, number))
        running.remove(device)

    tasks = [
        lanes.post(device, partial(call, device, number)) for number, device in enumerate(devices)
    ]
    await lanes.drain()
    assert [task.exception() for task in tasks] == [None] * len(tasks)
    for device in set(devices):
        numbers = [number for one, number in done if one == device]
        assert numbers == [number for number, one in enumerate(devices) if one == device]
        assert lanes.depth(device) == 0


async def test_a_slow_device_does_not_hold_up_another() -> None:
    lanes = Lanes()
    release = threading.Event()
    slow = lanes.post("slow", release.wait)
    await lanes.run("quick", lambda: None)
    assert not slow.done()
    release.set()
    await slow


async def test_a_failed_call_is_told_and_does_not_stop_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lanes = Lanes()
    failed = lanes.post("a", lambda: 1 // 0)
    assert await lanes.run("a", lambda: "next") == "next"
    assert isinstance(failed.exception(), ZeroDivisionError)
    assert "device a: a call failed" in caplog.text


async def test_a_call_is_made_though_nobody_waits_for_it_any_more() -> None:
    lanes = Lanes()
    started, release = threading.Event(), threading.Event()

    def call() -> None:
        started.set()
        release.wait()

    first = lanes.post("a", call)
    made: list[str] = []
    waiting = asyncio.create_task(lanes.run("a", lambda: made.append("second")))
    await asyncio.to_thread(started.wait)
    waiting.cancel()
    release.set()
    await first
    await lanes.drain()
    assert made == ["second"]


async def test_whoever_asked_is_told_which_device_was_ended_and_of_no_replacement() -> None:
    hub, ended = Hub(), list[str]()
    hub.when_ended(ended.append)
    receiver = RecordingReceiver()
    hub.open("a", "grpc", receiver)
    hub.open("a", "grpc", receiver)
    await asyncio.to_thread(hub.end, "a", "the device was removed")
    await settle()
    hub.end("never-connected", "the device was removed")
    await settle()
    assert ended == ["a", "never-connected"]
    await hub.lanes.drain()
