"""What the managed broker lets a device do, tried by clients that ignore every rule of ours."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest
from simulators.link_ends import MqttEnd, admit, carrier_for, enrolled
from simulators.pki import Pki
from simulators.receiver import TIMEOUT_S, RecordingReceiver
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import LinkLostError
from sprat_proto import topics
from sprat_proto.v1.link_pb2 import Assignment, ControllerMessage, DeviceMessage, Hello


@pytest.fixture
async def receiver() -> RecordingReceiver:
    return RecordingReceiver()


@pytest.fixture
async def end(tmp_path: Path, receiver: RecordingReceiver) -> AsyncIterator[MqttEnd]:
    made = MqttEnd(Pki(), receiver, tmp_path / "broker")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
def devices(end: MqttEnd, receiver: RecordingReceiver, tmp_path: Path) -> dict[str, Identity]:
    made = {name: enrolled(name, tmp_path / name, end.authority, end.address) for name in "ab"}
    for identity in made.values():
        admit(receiver, identity)
    return made


def raw(end: MqttEnd, identity: Identity, client_id: str = "anything") -> aiomqtt.Client:
    host, _, port = end.address.rpartition(":")
    return aiomqtt.Client(
        host,
        int(port),
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=5,
        tls_params=aiomqtt.TLSParameters(
            ca_certs=str(identity.ca_path),
            certfile=str(identity.tls_path),
        ),
    )


def hello(text: str) -> DeviceMessage:
    return DeviceMessage(boot_id=text, hello=Hello(capability=1))


def assigned(version: int) -> ControllerMessage:
    return ControllerMessage(assignment=Assignment(version=version, targets=b"signed"))


async def first(client: aiomqtt.Client) -> aiomqtt.Message:
    async with asyncio.timeout(TIMEOUT_S):
        async for packet in client.messages:
            return packet
    raise AssertionError("a subscription never ends without an error")


@pytest.mark.parametrize("pattern", ["sprat/v1/#", "#", "sprat/v1/devices/+/down/#"])
async def test_a_device_hears_only_what_is_for_it(
    end: MqttEnd, devices: dict[str, Identity], pattern: str
) -> None:
    async with raw(end, devices["b"]) as eavesdropper:
        await eavesdropper.subscribe(pattern, qos=1)
        end.hub.push("a", assigned(1))
        end.hub.push("b", assigned(2))
        # Published in this order: had the first been let through, it would come first.
        packet = await first(eavesdropper)
        assert packet.topic.value == topics.assignment("b")


async def test_a_device_does_not_hear_what_was_kept_for_another(
    end: MqttEnd, devices: dict[str, Identity]
) -> None:
    end.hub.push("a", assigned(1))
    async with carrier_for("mqtt", devices["a"]).connect() as connection:
        async with asyncio.timeout(TIMEOUT_S):
            async for message in connection:
                assert message == assigned(1)
                break
    async with raw(end, devices["b"]) as eavesdropper:
        await eavesdropper.subscribe(topics.assignment("a"), qos=1)
        await eavesdropper.subscribe(topics.assignment("b"), qos=1)
        end.hub.push("b", assigned(2))
        assert (await first(eavesdropper)).topic.value == topics.assignment("b")


@pytest.mark.parametrize(
    "topic",
    [topics.up("a"), topics.presence("a"), topics.down("a"), topics.assignment("a"), "sprat/v1"],
)
async def test_a_device_is_not_heard_outside_its_own_topics(
    end: MqttEnd, devices: dict[str, Identity], receiver: RecordingReceiver, topic: str
) -> None:
    async with (
        carrier_for("mqtt", devices["a"]).connect() as connection,
        raw(end, devices["b"]) as impostor,
    ):
        await impostor.publish(topic, topics.OFFLINE, qos=1)
        await impostor.publish(topics.up("b"), hello("done").SerializeToString(), qos=1)
        await receiver.until(lambda: "done" in receiver.boots("b"))
        end.hub.push("a", assigned(9))
        async with asyncio.timeout(TIMEOUT_S):
            async for message in connection:
                assert message == assigned(9)
                break
    assert receiver.boots("a") == []


async def test_a_device_cannot_throw_another_off_by_its_client_id(
    end: MqttEnd, devices: dict[str, Identity], receiver: RecordingReceiver
) -> None:
    async with (
        carrier_for("mqtt", devices["a"]).connect() as connection,
        raw(end, devices["b"], client_id="a"),
    ):
        await connection.send(hello("unmoved"))
        await receiver.until(lambda: "unmoved" in receiver.boots("a"))
    assert receiver.boots("a") == ["unmoved"]


async def test_bytes_that_are_no_message_are_dropped(
    end: MqttEnd, devices: dict[str, Identity], receiver: RecordingReceiver
) -> None:
    async with raw(end, devices["a"]) as client:
        await client.publish(topics.up("a"), b"\xff\xff not protobuf", qos=1)
        await client.publish(topics.up("a"), hello("next").SerializeToString(), qos=1)
        await receiver.until(lambda: "next" in receiver.boots("a"))
    assert receiver.boots("a") == ["next"]


# paho forgets to close the socket of a failed handshake; it is closed when it is collected.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
async def test_nobody_enters_without_a_certificate(
    end: MqttEnd, devices: dict[str, Identity]
) -> None:
    host, _, port = end.address.rpartition(":")
    context = ssl.create_default_context(cafile=devices["a"].ca_path)
    client = aiomqtt.Client(host, int(port), username="a", tls_context=context, timeout=2)
    with pytest.raises(aiomqtt.MqttError):
        async with client:
            pass


async def test_a_killed_broker_comes_back_and_everybody_with_it(
    end: MqttEnd, devices: dict[str, Identity], receiver: RecordingReceiver
) -> None:
    carrier = carrier_for("mqtt", devices["a"])
    async with carrier.connect() as connection:
        await receiver.until(lambda: receiver.is_online("a"))
        end.kill_broker()
        async with asyncio.timeout(TIMEOUT_S):
            with pytest.raises(LinkLostError):
                async for _ in connection:
                    pass
    await receiver.until(lambda: not receiver.is_online("a"))
    async with asyncio.timeout(TIMEOUT_S):
        await end.carrier.connected.wait()
    async with carrier.connect() as connection:
        await receiver.until(lambda: receiver.is_online("a"))
        await connection.send(hello("again"))
        await receiver.until(lambda: "again" in receiver.boots("a"))


async def test_a_controller_that_comes_later_learns_who_is_there(
    end: MqttEnd, devices: dict[str, Identity], receiver: RecordingReceiver
) -> None:
    async with carrier_for("mqtt", devices["a"]).connect():
        await receiver.until(lambda: receiver.is_online("a"))
        await end.leave()
        assert not receiver.is_online("a")
        await end.join()
        await receiver.until(lambda: receiver.is_online("a"))
