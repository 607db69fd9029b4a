"""What a device can do to others at a real Mosquitto, and what a revoked one can do at all.

What counts is what is delivered: Mosquitto grants every subscription (T13, T14, T48).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest
from simulators.link_ends import MqttEnd, admit, carrier_for, enrolled
from simulators.pki import DAY, NOW, Pki
from simulators.receiver import TIMEOUT_S, RecordingReceiver
from simulators.waiting import until
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import Connection, LinkLostError, LinkUnavailableError
from sprat_controller.fleet.ca import KeyPair
from sprat_proto import topics
from sprat_proto.v1.link_pb2 import Assignment, ControllerMessage, DeviceMessage, Hello, ReportAck

# paho forgets to close the socket of a failed handshake; it is closed when it is collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
A, B = "dev-a", "dev-b"
HOUR = timedelta(hours=1)


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


class Fleet:
    """Devices with certificates of the broker's CA, whatever these say."""

    def __init__(self, end: MqttEnd, receiver: RecordingReceiver, folder: Path) -> None:
        self.end, self.receiver = end, receiver
        self._folder = folder
        self.certificates: dict[str, KeyPair] = {}

    def enrol(self, name: str, certified: KeyPair | None = None) -> Identity:
        self.certificates[name] = certified or self.end.authority.client(name)
        identity = enrolled(
            name,
            self._folder / f"device-{len(self.certificates)}",
            self.end.authority,
            self.end.address,
            certified=self.certificates[name],
        )
        admit(self.receiver, identity)
        return identity

    def raw(
        self, identity: Identity, client_id: str = "", will: aiomqtt.Will | None = None
    ) -> aiomqtt.Client:
        """Return a client that follows no rule of ours."""
        host, _, port = self.end.address.rpartition(":")
        return aiomqtt.Client(
            host,
            int(port),
            identifier=client_id or None,
            protocol=aiomqtt.ProtocolVersion.V5,
            timeout=2,
            will=will,
            tls_params=aiomqtt.TLSParameters(
                ca_certs=str(identity.ca_path),
                certfile=str(identity.tls_path),
            ),
        )


@pytest.fixture
def fleet(end: MqttEnd, receiver: RecordingReceiver, tmp_path: Path) -> Fleet:
    return Fleet(end, receiver, tmp_path)


def said(text: str) -> DeviceMessage:
    return DeviceMessage(boot_id=text, hello=Hello(capability=1))


def plan(version: int) -> ControllerMessage:
    return ControllerMessage(assignment=Assignment(version=version, targets=b"signed"))


def answer(up_to: int) -> ControllerMessage:
    return ControllerMessage(report_ack=ReportAck(up_to=up_to))


async def until_told(client: aiomqtt.Client, topic: str) -> list[str]:
    """Return the topics of what is delivered, up to the first message on `topic`."""
    arrived: list[str] = []
    async with asyncio.timeout(TIMEOUT_S):
        async for packet in client.messages:
            arrived.append(packet.topic.value)
            if arrived[-1] == topic:
                return arrived
    raise AssertionError("a subscription never ends without an error")


async def first(connection: Connection) -> ControllerMessage:
    async with asyncio.timeout(TIMEOUT_S):
        async for message in connection:
            return message
    raise AssertionError("a connection never ends without an error")


async def say(connection: Connection, receiver: RecordingReceiver, name: str, text: str) -> None:
    await connection.send(said(text))
    await receiver.until(lambda: text in receiver.boots(name))


WIDE: Sequence[str] = (
    "#",
    "+/+/+/+/down/#",
    "sprat/v1/#",
    f"sprat/v1/devices/{A}/#",
    "sprat/v1/devices/+/down/#",
    "sprat/v1/devices/+/up/#",
    "$share/controllers/sprat/v1/devices/+/up/#",
    "$share/mine/sprat/v1/#",
    f"$share/mine/{topics.down(A)}",
    "$SYS/#",
)


@pytest.mark.parametrize("pattern", WIDE)
async def test_t13_a_device_reads_nothing_of_another(
    fleet: Fleet, receiver: RecordingReceiver, pattern: str
) -> None:
    a, b = fleet.enrol(A), fleet.enrol(B)
    fleet.end.hub.push(A, plan(1))  # retained
    async with carrier_for("mqtt", a).connect() as victim, fleet.raw(b) as thief:
        assert await first(victim) == plan(1)
        await thief.subscribe(topics.down(B), qos=1)
        await thief.subscribe(pattern, qos=1)
        await say(victim, receiver, A, "one")
        await say(victim, receiver, A, "two")
        fleet.end.hub.push(A, answer(1))
        assert await first(victim) == answer(1)
        await thief.publish(topics.presence(B), topics.ONLINE, qos=1)
        await receiver.until(lambda: receiver.is_online(B))
        fleet.end.hub.push(B, answer(2))
        arrived = await until_told(thief, topics.down(B))
    assert [one for one in arrived if f"/{B}/" not in f"{one}/"] == []


@pytest.mark.parametrize("group", ["controllers", "+"])
async def test_t13_a_device_takes_no_message_of_another_away(
    fleet: Fleet, receiver: RecordingReceiver, group: str
) -> None:
    a, b = fleet.enrol(A), fleet.enrol(B)
    texts = [f"word {number}" for number in range(10)]
    async with carrier_for("mqtt", a).connect() as victim, fleet.raw(b) as thief:
        with contextlib.suppress(aiomqtt.MqttError):
            await thief.subscribe(topics.all_up(group), qos=1)
        for text in texts:
            await victim.send(said(text))
        await receiver.until(lambda: receiver.boots(A)[-1:] == texts[-1:])
    assert receiver.boots(A) == texts


OTHERS: Sequence[str] = (
    topics.up(A),
    topics.presence(A),
    topics.down(A),
    topics.assignment(A),
    f"sprat/v1/devices/{A}",
    "sprat/v1/devices",
    "$SYS/broker/version",
    "$CONTROL/dynamic-security/v1",
)


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("topic", OTHERS)
async def test_t13_a_device_writes_nothing_of_another(
    fleet: Fleet, receiver: RecordingReceiver, topic: str, *, retain: bool
) -> None:
    a, b = fleet.enrol(A), fleet.enrol(B)
    forged = said("forged").SerializeToString()
    async with carrier_for("mqtt", a).connect() as victim, fleet.raw(b) as impostor:
        await receiver.until(lambda: receiver.is_online(A))
        await impostor.publish(topic, forged, qos=1, retain=retain)
        await impostor.publish(topics.up(B), said("done").SerializeToString(), qos=1)
        await receiver.until(lambda: "done" in receiver.boots(B))
        fleet.end.hub.push(A, answer(9))
        assert await first(victim) == answer(9)
    # Nor was it kept for whoever comes later.
    async with carrier_for("mqtt", a).connect() as victim:
        await receiver.until(lambda: receiver.what_happened(A).count("connected") == 2)
        fleet.end.hub.push(A, answer(10))
        assert await first(victim) == answer(10)
    assert receiver.boots(A) == []


@pytest.mark.parametrize("topic", OTHERS[:4])
async def test_t13_a_last_will_on_anothers_topic_is_not_carried_out(
    fleet: Fleet, receiver: RecordingReceiver, topic: str
) -> None:
    a, b = fleet.enrol(A), fleet.enrol(B)
    payload = topics.OFFLINE if topic == topics.presence(A) else said("will").SerializeToString()
    will = aiomqtt.Will(topic, payload, qos=1, retain=True)
    async with carrier_for("mqtt", a).connect() as victim:
        await receiver.until(lambda: receiver.is_online(A))
        dying = fleet.raw(b, will=will)
        try:
            await dying.__aenter__()
        except aiomqtt.MqttError:
            pass  # refused already: as good
        else:
            await fleet.end.broker.end_session(B)  # without a word: the will is due
            await asyncio.gather(dying.__aexit__(None, None, None), return_exceptions=True)
        async with fleet.raw(b) as again:
            await again.publish(topics.up(B), said("done").SerializeToString(), qos=1)
            await receiver.until(lambda: "done" in receiver.boots(B))
        fleet.end.hub.push(A, answer(9))
        assert await first(victim) == answer(9)
        assert receiver.is_online(A)
    assert receiver.boots(A) == []


async def test_t14_a_device_does_not_throw_another_off_by_its_client_id(
    fleet: Fleet, receiver: RecordingReceiver
) -> None:
    a, b = fleet.enrol(A), fleet.enrol(B)
    async with carrier_for("mqtt", a).connect() as victim, fleet.raw(b, client_id=A) as impostor:
        await say(victim, receiver, A, "unmoved")
        await impostor.publish(topics.up(B), said("I am b").SerializeToString(), qos=1)
        await receiver.until(lambda: "I am b" in receiver.boots(B))
        fleet.end.hub.push(A, answer(1))
        assert await first(victim) == answer(1)
    assert receiver.what_happened(A)[:1] == ["connected"]
    assert receiver.boots(A) == ["unmoved"]


@pytest.mark.parametrize("name", ["+", "#", f"{A}/x", f"{A}/up", "../controller", "controller "])
async def test_t13_a_hostile_name_in_a_certificate_opens_nothing(
    fleet: Fleet, receiver: RecordingReceiver, name: str
) -> None:
    a = fleet.enrol(A)
    hostile = fleet.enrol("hostile", fleet.end.authority.client(name))
    fleet.end.hub.push(A, plan(1))
    async with carrier_for("mqtt", a).connect() as victim:
        assert await first(victim) == plan(1)
        await receiver.until(lambda: receiver.is_online(A))
        try:
            async with fleet.raw(hostile) as thief:
                for pattern in ("#", topics.down(A), topics.assignment(A)):
                    await thief.subscribe(pattern, qos=1)
                for topic in (topics.up(A), topics.down(A), topics.presence(A)):
                    await thief.publish(topic, topics.OFFLINE, qos=1)
                fleet.end.hub.push(A, answer(1))
                assert await first(victim) == answer(1)
                # What has arrived by the answer to a further question is all there is.
                await thief.subscribe("sprat/v1/nothing", qos=1)
                assert len(thief.messages) == 0
        except aiomqtt.MqttError:
            pass  # not even let in
        await say(victim, receiver, A, "unmoved")
        assert receiver.is_online(A)
    assert receiver.boots(A) == ["unmoved"]


async def test_an_expired_certificate_is_refused(fleet: Fleet, receiver: RecordingReceiver) -> None:
    late = fleet.enrol(A, fleet.end.authority.client(A, begins=NOW - 8 * DAY, ends=NOW - HOUR))
    with pytest.raises(LinkUnavailableError):
        async with carrier_for("mqtt", late, timeout_s=2).connect():
            pass
    assert receiver.events == []


async def revoke(fleet: Fleet, name: str) -> None:
    """Do what the job does when a device is revoked."""
    fleet.end.authority.revoke(fleet.certificates[name])
    await fleet.end.broker.revoke(fleet.end.authority.revocation_list())
    await fleet.end.broker.cut_off(name)


async def test_a_revoked_device_is_cut_off_at_once_and_refused_and_nobody_else_notices(
    fleet: Fleet, receiver: RecordingReceiver
) -> None:
    a, b = fleet.enrol(A), fleet.enrol(B)
    pid = fleet.end.broker.pid
    async with carrier_for("mqtt", b).connect() as other:
        await receiver.until(lambda: receiver.is_online(B))
        async with carrier_for("mqtt", a).connect() as connection:
            await say(connection, receiver, A, "before")
            await revoke(fleet, A)
            with pytest.raises(LinkLostError):
                await first(connection)
            with pytest.raises(LinkLostError):
                await connection.send(said("after"))
        with pytest.raises(LinkUnavailableError):
            async with carrier_for("mqtt", a, timeout_s=2).connect():
                pass
        await say(other, receiver, B, "unmoved")
        fleet.end.hub.push(B, answer(1))
        assert await first(other) == answer(1)
    assert receiver.boots(A) == ["before"]
    assert receiver.what_happened(B)[:1] == ["connected"]
    assert fleet.end.broker.pid == pid


def connect_packet(client_id: str) -> bytes:
    """Return an MQTT v5 CONNECT, clean start, keep-alive 60 s."""
    name = client_id.encode()
    body = b"\0\4MQTT\5\2\0\x3c\0" + len(name).to_bytes(2, "big") + name
    return bytes([0x10, len(body)]) + body


def publish_packet(topic: str, payload: bytes) -> bytes:
    """Return an MQTT v5 PUBLISH, QoS 0."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + b"\0" + payload
    return bytes([0x30, len(body)]) + body


async def test_a_connection_that_was_opened_before_the_revocation_carries_nothing(
    fleet: Fleet, receiver: RecordingReceiver
) -> None:
    """Mosquitto lets it in by the list of when it was opened: the access list stops it."""
    a, b = fleet.enrol(A), fleet.enrol(B)
    host, _, port = fleet.end.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with fleet.raw(b) as other:
        # Taken after that connection: when this one is up, that one is known to the broker.
        await revoke(fleet, A)
        context = ssl.create_default_context(cafile=a.ca_path)
        context.load_cert_chain(a.tls_path)
        await writer.start_tls(context, server_hostname=host)
        writer.write(connect_packet(A))
        connack = await reader.read(64)
        assert connack[:1] == b"\x20"  # let in, or there is nothing to show
        writer.write(publish_packet(topics.up(A), said("revoked").SerializeToString()))
        await writer.drain()
        for text in ("first", "second"):
            await other.publish(topics.up(B), said(text).SerializeToString(), qos=1)
            await receiver.until(lambda text=text: text in receiver.boots(B))
        writer.close()
    assert receiver.boots(A) == []


async def test_what_was_kept_for_a_revoked_device_is_dropped(
    fleet: Fleet, receiver: RecordingReceiver
) -> None:
    a = fleet.enrol(A)
    async with carrier_for("mqtt", a).connect():
        await receiver.until(lambda: receiver.is_online(A))
    # Its session waits at the broker; a certificate that is not revoked would find it empty.
    await fleet.end.broker.end_session(A)
    async with fleet.raw(a, client_id=A) as again:
        fleet.end.hub.push(A, plan(1))
        await again.publish(topics.up(A), said("there").SerializeToString(), qos=1)
        await receiver.until(lambda: "there" in receiver.boots(A))
        assert len(again.messages) == 0


async def test_two_devices_revoked_in_one_second_are_both_refused(fleet: Fleet) -> None:
    a, b = fleet.enrol(A), fleet.enrol(B)
    await revoke(fleet, A)
    await revoke(fleet, B)
    for identity in (a, b):
        with pytest.raises(LinkUnavailableError):
            async with carrier_for("mqtt", identity, timeout_s=2).connect():
                pass


async def test_a_broker_that_died_over_it_starts_with_the_new_list(
    fleet: Fleet, receiver: RecordingReceiver
) -> None:
    a, b = fleet.enrol(A), fleet.enrol(B)
    fleet.end.authority.revoke(fleet.certificates[A])
    await fleet.end.broker.revoke(fleet.end.authority.revocation_list())
    fleet.end.kill_broker()
    await until(lambda: not fleet.end.carrier.connected.is_set(), TIMEOUT_S)
    await fleet.end.carrier.connected.wait()
    async with carrier_for("mqtt", b).connect() as other:
        await say(other, receiver, B, "let in")
    with pytest.raises(LinkUnavailableError):
        async with carrier_for("mqtt", a, timeout_s=2).connect():
            pass


async def test_t48_an_expired_list_lets_nobody_in_and_a_new_one_everybody(
    fleet: Fleet, receiver: RecordingReceiver
) -> None:
    a = fleet.enrol(A)
    await fleet.end.broker.revoke(fleet.end.authority.revocation_list(NOW - 7 * DAY - HOUR))
    with pytest.raises(LinkUnavailableError):
        async with carrier_for("mqtt", a, timeout_s=2).connect():
            pass
    await fleet.end.broker.revoke(fleet.end.authority.revocation_list())
    async with carrier_for("mqtt", a).connect() as connection:
        await say(connection, receiver, A, "back")


async def test_t48_one_ca_follows_another_by_a_documented_restart(
    tmp_path: Path, receiver: RecordingReceiver
) -> None:
    """Both in the file from the start, each with its list; then the broker is started anew."""
    old, new = Pki("old"), Pki("new")
    both = Authorities(old, new)
    end = MqttEnd(both, receiver, tmp_path / "broker")
    await end.start()
    try:
        fleet = Fleet(end, receiver, tmp_path)
        a, b = fleet.enrol(A, old.client(A)), fleet.enrol(B, new.client(B))
        for identity in (a, b):
            identity.ca_path.write_bytes(both.root_pem)
            async with carrier_for("mqtt", identity).connect() as connection:
                await say(connection, receiver, identity.device_id, "let in")
        await end.stop()
        end.authority = new
        await end.start()
        async with carrier_for("mqtt", b).connect() as connection:
            await say(connection, receiver, B, "let in again")
        with pytest.raises(LinkUnavailableError):
            async with carrier_for("mqtt", a, timeout_s=2).connect():
                pass
    finally:
        await end.stop()


class Authorities(Pki):
    """Two CAs while one follows the other: what is issued is the new one's."""

    def __init__(self, old: Pki, new: Pki) -> None:
        self.__dict__.update(new.__dict__)
        self._old, self._new = old, new

    @property
    def root_pem(self) -> bytes:
        return self._old.root_pem + self._new.root_pem

    @property
    def ca_pem(self) -> bytes:
        return self._old.ca_pem + self._new.ca_pem

    def revocation_list(self, at: datetime = NOW, *, life: timedelta = 7 * DAY) -> bytes:
        return b"".join(one.revocation_list(at, life=life) for one in (self._old, self._new))
