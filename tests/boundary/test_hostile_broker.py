"""A Mosquitto in the hands of an attacker: it reads and writes on every topic (T17)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest
from simulators.link_ends import MqttEnd, admit, carrier_for, enrolled
from simulators.pki import NOW, Pki
from simulators.receiver import TIMEOUT_S, RecordingReceiver
from simulators.sealed import journal_of, root_of
from sprat_agent.identity.identity import Identity
from sprat_agent.link.acknowledged import checked_by
from sprat_agent.link.carrier import Connection
from sprat_agent.state import State
from sprat_agent.sync.flows import AuditFlow
from sprat_controller.link import broker
from sprat_controller.link.acknowledge import Acknowledger
from sprat_proto import acknowledgement, topics
from sprat_proto.v1.link_pb2 import AuditAck, ControllerMessage, DeviceMessage

A, RECORDS = "dev-a", 5


@pytest.fixture
async def receiver() -> RecordingReceiver:
    return RecordingReceiver()


@pytest.fixture
async def end(
    tmp_path: Path, receiver: RecordingReceiver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MqttEnd]:
    def everything(_denied: set[str]) -> str:
        return "topic readwrite #\npattern readwrite #\n"

    monkeypatch.setattr(broker, "access_list", everything)
    made = MqttEnd(Pki(), receiver, tmp_path / "broker")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Attacker:
    """Who owns the broker: knows all that passes, has the broker's own certificate."""

    def __init__(self, end: MqttEnd, device: Identity) -> None:
        self.server = end.authority.server("controller")
        host, _, port = end.address.rpartition(":")
        self.client = aiomqtt.Client(
            host,
            int(port),
            protocol=aiomqtt.ProtocolVersion.V5,
            max_queued_incoming_messages=100,
            tls_params=aiomqtt.TLSParameters(
                ca_certs=str(device.ca_path), certfile=str(device.tls_path)
            ),
        )

    async def acknowledge(self) -> None:
        """Answer the device's audit in the controller's place, with the right root."""
        async for packet in self.client.messages:
            if packet.topic.value == topics.up(A):
                records = DeviceMessage.FromString(packet.payload).audit.records
                for ack in self._forged(records[-1].seq, root_of(records)):
                    message = ControllerMessage(audit_ack=ack)
                    payload = message.SerializeToString()
                    await self.client.publish(topics.down(A), payload, qos=1)
                return

    def _forged(self, seq: int, root: bytes) -> list[AuditAck]:
        key, chain = self.server.key_pem, self.server.certificate_pem
        return [
            AuditAck(up_to=seq, root=root),
            acknowledgement.sign(key, chain, A, seq, root),
        ]


async def hear(connection: Connection, flow: AuditFlow, count: int) -> None:
    """Take the next acknowledgements as the agent's loop does."""
    async with asyncio.timeout(TIMEOUT_S):
        async for message in connection:
            assert message.WhichOneof("body") == "audit_ack"
            flow.acknowledged(message.audit_ack, 1.0)
            count -= 1
            if count == 0:
                return


async def test_t17_a_broker_that_forges_acknowledgements_has_no_record_deleted(
    end: MqttEnd, receiver: RecordingReceiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device = enrolled(A, tmp_path / "a", end.authority, end.address)
    spy = enrolled("spy", tmp_path / "spy", end.authority, end.address)
    admit(receiver, device)
    state = State(tmp_path / "state")
    journal = journal_of(state, lambda: NOW)
    flow = AuditFlow(journal, A, checked_by(device.ca_path, A, lambda: NOW))
    for number in range(RECORDS):
        journal.append("agent:test:written", "test", {"number": number})
    attacker = Attacker(end, spy)
    async with attacker.client, carrier_for("mqtt", device).connect() as connection:
        await attacker.client.subscribe(topics.up(A), qos=1)
        batch = flow.due(0.0)
        assert batch is not None
        await connection.send(DeviceMessage(audit=batch))
        await attacker.acknowledge()
        await hear(connection, flow, 2)
        assert caplog.text.count("frees nothing") == 2
        assert len(journal.batch(100, 1 << 20)) == RECORDS

        # The controller's own word, over the same broker, is another matter.
        signing = Acknowledger(end.authority.client("controller"))
        last = batch.records[-1]
        await receiver.until(lambda: receiver.is_online(A))
        end.hub.push(A, signing.audit_ack(A, last.seq, root_of(batch.records)))
        await hear(connection, flow, 1)
        assert journal.batch(100, 1 << 20) == []
    state.close()
