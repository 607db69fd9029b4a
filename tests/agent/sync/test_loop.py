"""The conversation over carriers that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from simulators.controller_end import ControllerEnd, MemoryCarrier
from simulators.device import Device, Disk
from simulators.signed import release
from simulators.trusting import intake as make_intake
from simulators.trusting import trusting
from simulators.tuf_world import TufWorld
from simulators.waiting import until
from sprat_agent.sync import dialogue, loop
from sprat_agent.sync.dialogue import Voice
from sprat_agent.sync.loop import Conversation
from sprat_agent.sync.voice import Speaker, Trust
from sprat_proto.fit import Profile
from sprat_proto.v1.link_pb2 import ControllerMessage, Welcome

WORLD = TufWorld()
RELEASE = release()
WORLD.image.publish(RELEASE.manifest)
PROFILE = Profile(
    arch="x86_64",
    cores=2,
    cpu_features=("avx2",),
    memory_bytes=4,
    memory_budget_bytes=2,
    disk_free_bytes=9,
    accelerators=(),
    os="Linux",
    simulated=True,
    runtimes=("llama.cpp",),
)


def voice(device: Device) -> Voice:
    speaker = Speaker(
        lambda: PROFILE,
        device.ledger,
        device.workers,
        outbox=device.outbox,
        journal=device.journal,
        trust=Trust(lambda: 1, lambda: 2, lambda: True),
        version="1",
        disk_free=lambda: 9,
        memory_free=lambda: 3,
    )
    return speaker.voice("gw-1", "boot")


@asynccontextmanager
async def conversing(
    device: Device,
    carriers: Sequence[MemoryCarrier],
    on_welcome: Callable[[Welcome], None] = lambda _: None,
) -> AsyncGenerator[Conversation]:
    trust = trusting(WORLD, device.state, device.folder)
    intake = make_intake(trust, device.state, device.ledger, device.journal)
    intake.on_kept = device.executor.wake
    conversation = Conversation(
        carriers,
        voice(device),
        outbox=device.outbox,
        journal=device.journal,
        check_ack=lambda _: None,
        take=intake.take,
        welcomed=on_welcome,
        uniform=lambda low, high: min(high, low + 0.01),
    )
    device.journal.on_append = device.outbox.on_ready = conversation.wake
    running = asyncio.gather(conversation.run(), intake.run())
    try:
        yield conversation
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        device.close()


async def test_an_assignment_is_carried_out_and_its_reports_arrive(tmp_path: Path) -> None:
    device = Device(tmp_path, Disk({RELEASE.digest: RELEASE}))
    end = ControllerEnd(assignment=WORLD.plan("gw-1", 1, [RELEASE.wanted("e1")]))
    async with conversing(device, [MemoryCarrier(end)]) as conversation:
        await device.run_until(lambda: "SUCCEEDED" in end.states and not device.journal.batch(1, 1))
        assert conversation.carrier == "grpc"
        assert end.hellos[0].profile.simulated
        assert end.hellos[0].next_report_seq == 1
        assert len(end.bodies) == device.journal.next_seq() - 1
        assert not device.outbox.pending(0, 1)
        beat = voice(device).heartbeat()
        assert beat.newest_report_seq == device.outbox.last_seq() == len(end.states)
        told = [(one.alias, one.digest) for one in beat.metrics]
        assert told == [("assistant", RELEASE.digest)]
    assert end.hellos[0].newest_report_seq == 0


async def test_a_lost_link_comes_back_and_goes_on(tmp_path: Path) -> None:
    device = Device(tmp_path, Disk())
    end = ControllerEnd()
    carrier = MemoryCarrier(end)
    async with conversing(device, [carrier]) as conversation:
        device.journal.append("agent:model:loaded", "m1", {})
        await until(lambda: len(end.bodies) == 1)
        carrier.is_reachable = False
        carrier.cut()
        await until(lambda: carrier.connects > 3)
        assert conversation.carrier == ""
        device.journal.append("agent:model:loaded", "m2", {})
        carrier.is_reachable = True
        await until(lambda: len(end.bodies) == 2)
        assert end.hellos[-1].next_audit_seq == 2


async def test_the_next_carrier_is_tried_and_the_first_one_again_later(tmp_path: Path) -> None:
    first, second = MemoryCarrier(ControllerEnd(), "grpc"), MemoryCarrier(ControllerEnd(), "mqtt")
    first.is_reachable = False
    device = Device(tmp_path, Disk())
    async with conversing(device, [first, second]) as conversation:
        await until(lambda: conversation.carrier == "mqtt")
        first.is_reachable = True
        second.cut()
        await until(lambda: conversation.carrier == "grpc")


async def test_a_carrier_on_which_nobody_answers_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue, "WELCOME_PATIENCE_S", 0.05)
    monkeypatch.setattr(dialogue, "HELLO_AGAIN_S", 0.02)
    silent = MemoryCarrier(ControllerEnd(welcomes=False), "mqtt")
    answering = MemoryCarrier(ControllerEnd(), "grpc")
    device = Device(tmp_path, Disk())
    async with conversing(device, [silent, answering]) as conversation:
        await until(lambda: conversation.carrier == "grpc")


async def test_a_refused_credential_gets_a_new_welcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue, "HELLO_AGAIN_S", 0.02)
    welcomes: list[Welcome] = []
    device = Device(tmp_path, Disk())
    carrier = MemoryCarrier(ControllerEnd())
    async with conversing(device, [carrier], welcomes.append) as conversation:
        await until(lambda: len(welcomes) == 1)
        conversation.ask_for_welcome()
        await until(lambda: len(welcomes) == 2)
        assert [one.blob_credential for one in welcomes] == ["credential-1", "credential-2"]
        assert carrier.connects == 1


async def test_a_message_of_a_newer_controller_does_no_harm(tmp_path: Path) -> None:
    device = Device(tmp_path, Disk())
    end = ControllerEnd()
    carrier = MemoryCarrier(end)
    async with conversing(device, [carrier]) as conversation:
        await until(lambda: conversation.carrier)
        carrier.say(ControllerMessage())
        conversation.beat_now()
        await until(lambda: end.heartbeats)
        assert carrier.connects == 1


async def test_silence_lasts_until_the_controller_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(loop, "monotonic", lambda: now[0])
    device = Device(tmp_path, Disk())
    carrier = MemoryCarrier(ControllerEnd())
    async with conversing(device, [carrier]) as conversation:
        await until(lambda: conversation.carrier)
        now[0] = 160.0
        assert conversation.silence_s == 60
        carrier.say(ControllerMessage())
        await until(lambda: conversation.silence_s == 0)


async def test_a_new_certificate_has_the_connection_made_anew_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    device = Device(tmp_path, Disk())
    end = ControllerEnd()
    carrier = MemoryCarrier(end)
    async with conversing(device, [carrier]) as conversation:
        for number in range(1, 4):
            await until(lambda: conversation.carrier == "grpc")
            device.journal.append("agent:model:loaded", f"m{number}", {})
            conversation.connect_anew()
            await until(lambda number=number: carrier.connects == number + 1)
        await until(lambda: len(end.bodies) == 3)
        assert conversation.carrier == "grpc"
