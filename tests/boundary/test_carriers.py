"""The contract that every carrier keeps, against a real gRPC server and a real Mosquitto."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from simulators.link_ends import (
    ControllerEnd,
    GrpcEnd,
    MqttEnd,
    admit,
    carrier_for,
    enrolled,
)
from simulators.pki import Pki
from simulators.receiver import TIMEOUT_S, RecordingReceiver
from simulators.wire import Wire
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import (
    Connection,
    LinkError,
    LinkLostError,
    LinkUnavailableError,
)
from sprat_proto import link
from sprat_proto.v1.link_pb2 import (
    Assignment,
    AuditBatch,
    AuditRecord,
    ControllerMessage,
    DeviceMessage,
    Hello,
    ReportAck,
)

KB_200 = 200_000


@pytest.fixture(scope="module")
def authority() -> Pki:
    return Pki()


@dataclass
class Bench:
    """One carrier under test."""

    end: ControllerEnd
    receiver: RecordingReceiver
    folder: Path

    def device(self, device_id: str, address: str | None = None) -> Identity:
        identity = enrolled(
            device_id, self.folder / device_id, self.end.authority, address or self.end.address
        )
        admit(self.receiver, identity)
        return identity

    @asynccontextmanager
    async def connection(self, identity: Identity) -> AsyncGenerator[Connection]:
        async with carrier_for(self.end.name, identity).connect() as connection:
            await self.receiver.until(lambda: self.receiver.is_online(identity.device_id))
            yield connection

    async def say(self, identity: Identity, text: str) -> None:
        """Connect, say something, and wait until it was heard."""
        async with carrier_for(self.end.name, identity).connect() as connection:
            await connection.send(said(text))
            await self.heard(identity.device_id, text)

    async def heard(self, device_id: str, text: str) -> None:
        await self.receiver.until(lambda: text in self.receiver.boots(device_id))


@pytest.fixture(params=["grpc", "mqtt"])
async def bench(
    request: pytest.FixtureRequest, authority: Pki, tmp_path: Path
) -> AsyncIterator[Bench]:
    receiver = RecordingReceiver()
    end: ControllerEnd = (
        GrpcEnd(authority, receiver)
        if request.param == "grpc"
        else MqttEnd(authority, receiver, tmp_path / "broker")
    )
    await end.start()
    try:
        yield Bench(end, receiver, tmp_path)
    finally:
        await end.stop()


def said(text: str) -> DeviceMessage:
    return DeviceMessage(boot_id=text, hello=Hello(capability=1))


def acknowledged(up_to: int) -> ControllerMessage:
    return ControllerMessage(report_ack=ReportAck(up_to=up_to))


def assigned(version: int, targets: bytes = b"signed") -> ControllerMessage:
    return ControllerMessage(assignment=Assignment(version=version, targets=targets))


async def next_of(connection: Connection) -> ControllerMessage:
    async with asyncio.timeout(TIMEOUT_S):
        async for message in connection:
            return message
    raise AssertionError("a connection never ends without an error")


async def lost(connection: Connection) -> LinkLostError:
    """Return the error that ends the connection."""
    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(LinkLostError) as caught:
            async for _ in connection:
                pass
    return caught.value


async def flood(connection: Connection) -> None:
    while True:
        await connection.send(DeviceMessage(boot_id="x" * 3 * link.MAX_MESSAGE_BYTES))


async def test_messages_go_both_ways(bench: Bench) -> None:
    bench.receiver.answer = lambda _, message: [acknowledged(len(message.boot_id))]
    async with bench.connection(bench.device("a")) as connection:
        await connection.send(said("seven77"))
        assert await next_of(connection) == acknowledged(7)
        bench.end.hub.push("a", assigned(3))
        assert await next_of(connection) == assigned(3)
    assert bench.receiver.heard == [("a", said("seven77"))]


async def test_what_a_device_says_is_heard_in_order(bench: Bench) -> None:
    texts = [str(number) for number in range(60)]
    async with bench.connection(bench.device("a")) as connection:
        for text in texts:
            await connection.send(said(text))
        await bench.heard("a", texts[-1])
    assert bench.receiver.boots("a") == texts


async def test_several_tasks_may_send_at_once(bench: Bench) -> None:
    texts = {str(number) for number in range(30)}
    async with bench.connection(bench.device("a")) as connection:
        await asyncio.gather(*(connection.send(said(text)) for text in texts))
        await bench.receiver.until(lambda: len(bench.receiver.heard) == len(texts))
    assert set(bench.receiver.boots("a")) == texts


async def test_answers_go_to_the_device_that_asked(bench: Bench) -> None:
    bench.receiver.answer = lambda device, _: [acknowledged(1 if device == "a" else 2)]
    async with (
        bench.connection(bench.device("a")) as first,
        bench.connection(bench.device("b")) as second,
    ):
        await asyncio.gather(first.send(said("x")), second.send(said("y")))
        assert await next_of(first) == acknowledged(1)
        assert await next_of(second) == acknowledged(2)


async def test_a_device_cannot_speak_as_another(bench: Bench) -> None:
    bench.device("a")
    identity = bench.device("b")
    with_another_name = dataclasses.replace(identity, device_id="a")
    try:
        async with carrier_for(bench.end.name, with_another_name).connect() as connection:
            await connection.send(said("I am a"))
    except LinkError:
        pass  # a carrier may refuse it; what counts is what the controller believes
    await bench.say(identity, "done")
    assert "a" not in {device for device, _ in bench.receiver.heard}
    assert bench.receiver.what_happened("a") == []


async def test_a_certificate_of_another_authority_is_refused(bench: Bench, tmp_path: Path) -> None:
    foreign = Pki("foreign").client("a")
    identity = enrolled(
        "a", tmp_path / "a", bench.end.authority, bench.end.address, certified=foreign
    )
    admit(bench.receiver, identity)
    with pytest.raises(LinkUnavailableError):
        async with carrier_for(bench.end.name, identity, timeout_s=2).connect():
            pass
    assert bench.receiver.events == []


# paho forgets to close the socket of a failed handshake; it is closed when it is collected.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
async def test_a_controller_of_another_authority_is_refused(bench: Bench) -> None:
    identity = bench.device("a")
    identity.ca_path.write_bytes(Pki("foreign").root_pem)
    with pytest.raises(LinkUnavailableError):
        async with carrier_for(bench.end.name, identity).connect():
            pass
    assert bench.receiver.events == []


async def test_a_servers_certificate_does_not_make_a_device(bench: Bench, tmp_path: Path) -> None:
    authority = bench.end.authority
    server = authority.server("a")
    identity = enrolled("a", tmp_path / "a", authority, bench.end.address, certified=server)
    admit(bench.receiver, identity)
    with pytest.raises(LinkUnavailableError):
        async with carrier_for(bench.end.name, identity, timeout_s=2).connect():
            pass
    assert bench.receiver.events == []


async def test_a_revoked_device_is_not_heard(bench: Bench) -> None:
    revoked, good = bench.device("revoked"), bench.device("good")
    del bench.receiver.admitted["revoked"]
    try:
        async with carrier_for(bench.end.name, revoked).connect() as connection:
            await connection.send(said("let me in"))
    except LinkUnavailableError as error:
        assert "revoked" in str(error)  # noqa: PT017 - a broker may let it in, to no effect
    await bench.say(good, "done")
    assert {device for device, _ in bench.receiver.heard} == {"good"}
    assert "connected" not in bench.receiver.what_happened("revoked")


async def test_what_was_assigned_while_a_device_was_away_is_there_when_it_comes(
    bench: Bench,
) -> None:
    identity = bench.device("a")
    for version in (1, 2):
        bench.end.hub.push("a", assigned(version))
    if bench.end.name == "grpc":
        # Nobody keeps messages for it here: it says Hello, and the rows answer.
        bench.receiver.answer = lambda _device, _message: [assigned(2)]
    else:
        # The broker keeps the newest; the controller is not asked.
        await bench.say(bench.device("b"), "the pushes are with the broker")
    async with bench.connection(identity) as connection:
        await connection.send(said("hello"))
        while (message := await next_of(connection)) != assigned(2):
            assert message == assigned(1)


async def test_a_device_that_leaves_is_noticed(bench: Bench) -> None:
    identity = bench.device("a")
    async with bench.connection(identity):
        pass
    await bench.receiver.until(lambda: not bench.receiver.is_online("a"))


async def test_a_broken_wire_is_noticed_on_both_sides_and_mended(bench: Bench) -> None:
    wire = Wire(bench.end.address)
    identity = bench.device("a", await wire.open())
    try:
        async with bench.connection(identity) as connection:
            wire.cut()
            await lost(connection)
            with pytest.raises(LinkLostError):
                await connection.send(said("is anybody there"))
            await bench.receiver.until(lambda: not bench.receiver.is_online("a"))
        async with bench.connection(identity) as connection:
            await connection.send(said("again"))
            await bench.heard("a", "again")
    finally:
        await wire.close()


async def test_a_controller_that_stops_is_noticed_and_found_again(bench: Bench) -> None:
    identity = bench.device("a")
    async with bench.connection(identity) as connection:
        stopping = asyncio.create_task(bench.end.stop())
        await lost(connection)
        await stopping
        assert not bench.receiver.is_online("a")
    with pytest.raises(LinkUnavailableError):
        async with carrier_for(bench.end.name, identity).connect():
            pass
    await bench.end.start()
    async with bench.connection(identity) as connection:
        await connection.send(said("again"))
        await bench.heard("a", "again")


async def test_a_newer_connection_replaces_the_older(bench: Bench) -> None:
    identity = bench.device("a")
    async with bench.connection(identity) as older:
        ended = asyncio.create_task(lost(older))
        async with carrier_for(bench.end.name, identity).connect() as newer:
            await ended
            await newer.send(said("it is me"))
            await bench.heard("a", "it is me")
            await bench.receiver.until(lambda: bench.receiver.is_online("a"))


async def test_a_large_message_passes_whole(bench: Bench) -> None:
    batch = AuditBatch(records=[AuditRecord(seq=1, body=bytes(range(250)) * (KB_200 // 250))])
    message = DeviceMessage(boot_id="large", audit=batch)
    bench.receiver.answer = lambda _device, _message: [assigned(1, b"e" * KB_200)]
    async with bench.connection(bench.device("a")) as connection:
        await connection.send(message)
        assert await next_of(connection) == assigned(1, b"e" * KB_200)
    assert bench.receiver.heard == [("a", message)]


async def test_a_message_too_large_is_refused_and_the_link_stands(bench: Bench) -> None:
    async with bench.connection(bench.device("a")) as connection:
        with pytest.raises(link.MessageTooLargeError, match="send it in parts"):
            await connection.send(DeviceMessage(boot_id="x" * link.MAX_MESSAGE_BYTES))
        with pytest.raises(link.MessageTooLargeError):
            bench.end.hub.push("a", assigned(1, b"x" * link.MAX_MESSAGE_BYTES))
        await connection.send(said("still here"))
        await bench.heard("a", "still here")
    assert bench.receiver.boots("a") == ["still here"]


async def test_a_device_that_sends_too_much_all_the_same_is_cut_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_limit(size: int) -> None:
        del size

    identity = bench.device("a")
    async with bench.connection(identity) as connection:
        monkeypatch.setattr(link, "check_size", no_limit)
        ended = asyncio.create_task(lost(connection))
        with pytest.raises(LinkLostError):
            await flood(connection)
        await ended
        monkeypatch.undo()
    assert bench.receiver.boots("a") == []
    await bench.say(identity, "smaller")


async def test_a_failure_of_the_controller_over_one_message_does_not_end_the_rest(
    bench: Bench,
) -> None:
    def fail_once(_: str, message: DeviceMessage) -> list[ControllerMessage]:
        if message.boot_id == "bad":
            raise RuntimeError("a bug")
        return []

    bench.receiver.answer = fail_once
    bad, good = bench.device("bad"), bench.device("good")
    async with bench.connection(good) as connection:
        await bench.say(bad, "bad")
        await connection.send(said("unaffected"))
        await bench.heard("good", "unaffected")
    await bench.say(bad, "better")
