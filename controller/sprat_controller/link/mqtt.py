"""The controller as a client of an MQTT v5 broker.

A message's device is told by its topic, which the broker's access list ties to the certificate it
was published under. The only file of the controller that imports aiomqtt and paho.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import aiomqtt
from google.protobuf.message import DecodeError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sprat_proto import link, topics
from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage

from sprat_controller.fleet.ca import CONTROLLER_NAME, KeyPair
from sprat_controller.link.hub import Hub, Receiver
from sprat_controller.link.outbox import Outbox

CARRIER: Final = "mqtt"
TIMEOUT_S: Final = 10.0
RETRY_BASE_S: Final = 0.5
RETRY_CEILING_S: Final = 30.0
# Messages that wait for the loop; beyond it the newest are dropped, and told again by the device.
_INCOMING_LIMIT: Final = 10_000
# Messages of one device that wait for a thread; beyond it they are dropped, and told again.
_LANE_LIMIT: Final = 64
_QOS: Final = 1
_log = logging.getLogger(__name__)


class MqttCarrier:
    """Holds the conversations of all devices at a broker."""

    def __init__(
        self,
        hub: Hub,
        receiver: Receiver,
        *,
        host: str,
        port: int,
        client: KeyPair,
        ca_pem: bytes,
        group: str,
        client_id: str = CONTROLLER_NAME,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Prepare to connect to the broker at `host`:`port`.

        Args:
            hub: Gives what is pushed to devices.
            receiver: What takes in the devices' words.
            host: Name or address, as the broker's certificate has it.
            port: Port of the broker.
            client: Certificate and key of the name that the broker lets read and write for all.
            ca_pem: Who must have certified the broker.
            group: The secret name by which the controllers share what devices say.
            client_id: Unique among the controllers at this broker.
            uniform: As `random.uniform`; jitter of the reconnects.
        """
        self._hub = hub
        self._receiver = receiver
        self._host = host
        self._port = port
        self._tls = _tls_context(client, ca_pem)
        self._all_up = topics.all_up(group)
        self._client_id = client_id
        self._uniform = uniform
        self._outbox = Outbox()
        # What is known of each device's presence; a device that is not in it was never heard of.
        self._online: dict[str, bool] = {}
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Hold the connection, and make it again whenever it is lost, until cancelled."""
        self._hub.attach(self)
        failures = 0
        try:
            while True:
                try:
                    async with self._client() as client:
                        await self._converse(client)
                except* aiomqtt.MqttError as group:
                    failures = 0 if self.connected.is_set() else failures + 1
                    self._lost(group)
                # Full jitter, so that replicas do not return in step.
                ceiling = min(RETRY_CEILING_S, RETRY_BASE_S * 2 ** min(failures, 10))
                await asyncio.sleep(self._uniform(0.0, ceiling))
        finally:
            self._hub.detach(self)
            self._lost(None)
            await self._hub.lanes.drain()

    def deliver(self, device_id: str, message: ControllerMessage) -> None:
        """Keep an assignment for the device whether it is there or not; all else if it is there."""
        if message.HasField("assignment") or self._online.get(device_id):
            self._outbox.put(device_id, message)

    async def _converse(self, client: aiomqtt.Client) -> None:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen(client))
            # Shared subscriptions bring no retained messages: presence is subscribed to apart,
            # or a controller that starts would not learn who is there already.
            for topic in (self._all_up, topics.presence("+")):
                await client.subscribe(topic, qos=_QOS)
            _log.info("connected to the broker at %s:%d", self._host, self._port)
            self.connected.set()
            tasks.create_task(self._speak(client))
            await listening

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for packet in client.messages:
            topic = packet.topic.value
            device_id = topics.device_of(topic)
            if device_id is None:
                _log.warning("dropped a message on %r: not a device's topic", topic[:200])
            elif topic == topics.presence(device_id):
                self._presence(device_id, is_online=packet.payload == topics.ONLINE)
            elif topic == topics.up(device_id):
                self._heard(device_id, packet.payload)

    def _presence(self, device_id: str, *, is_online: bool) -> None:
        # It comes twice, by the shared subscription and by the other; the second says nothing new.
        if self._online.get(device_id) is is_online:
            return
        self._online[device_id] = is_online
        _log.info("device %s is %s over MQTT", device_id, "online" if is_online else "offline")
        self._hub.lanes.post(
            device_id, partial(self._tell_presence, device_id, is_online=is_online)
        )

    def _tell_presence(self, device_id: str, *, is_online: bool) -> None:
        if not is_online:
            self._receiver.disconnected(device_id, CARRIER)
        elif self._receiver.admit(device_id, None):
            self._receiver.connected(device_id, CARRIER)

    def _heard(self, device_id: str, payload: bytes) -> None:
        if self._hub.lanes.depth(device_id) >= _LANE_LIMIT:
            _log.warning("device %s speaks faster than it is heard: dropped a message", device_id)
            return
        task = self._hub.lanes.post(device_id, partial(self._receive, device_id, payload))
        task.add_done_callback(partial(self._answer, device_id))

    def _receive(self, device_id: str, payload: bytes) -> list[ControllerMessage]:
        # The broker knows nothing of revocation: it is asked for at each message.
        if not self._receiver.admit(device_id, None):
            _log.warning("device %s is not enrolled here, or was revoked: not heard", device_id)
            return []
        try:
            message = DeviceMessage.FromString(payload)
        except DecodeError as error:
            _log.warning("device %s: dropped a message that is none: %s", device_id, error)
            return []
        return self._receiver.receive(device_id, CARRIER, message)

    def _answer(self, device_id: str, task: asyncio.Task[list[ControllerMessage]]) -> None:
        # A failed call stands in the log of its lane; the device will tell it again.
        if not task.cancelled() and task.exception() is None:
            for message in task.result():
                link.check_size(message.ByteSize())
                self._outbox.put(device_id, message)

    async def _speak(self, client: aiomqtt.Client) -> None:
        while True:
            device_id, message = await self._outbox.next()
            is_kept = message.HasField("assignment")
            topic = topics.assignment(device_id) if is_kept else topics.down(device_id)
            try:
                await client.publish(
                    topic,
                    message.SerializeToString(),
                    qos=_QOS,
                    retain=is_kept,
                    properties=None if is_kept else _expiring(),
                )
            except aiomqtt.MqttError:
                self._outbox.put_back(device_id, message)
                raise

    def _lost(self, group: BaseExceptionGroup[aiomqtt.MqttError] | None) -> None:
        """Take it that nobody is there, for nobody can be heard."""
        if group is not None:
            error = group.exceptions[0]
            _log.warning("no connection to the broker at %s:%d: %s", self._host, self._port, error)
        self.connected.clear()
        for device_id in [device_id for device_id, online in self._online.items() if online]:
            self._hub.lanes.post(
                device_id, partial(self._receiver.disconnected, device_id, CARRIER)
            )
        self._online.clear()

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._host,
            self._port,
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            # No session at the broker: a share of the devices' words must never wait for a
            # controller that is gone. They are told again until they are acknowledged.
            clean_start=True,
            keepalive=link.KEEPALIVE_S,
            timeout=TIMEOUT_S,
            max_queued_incoming_messages=_INCOMING_LIMIT,
            tls_context=self._tls,
        )


async def take_over(socket_path: Path, client_id: str, *, timeout_s: float = TIMEOUT_S) -> bool:
    """End the session of a client by its id, drop what the broker kept for it; tell if it is done.

    Args:
        socket_path: Where the broker lets anybody have any client id.
        client_id: Whose session.
        timeout_s: How long to wait for the broker.
    """
    taking = aiomqtt.Client(
        str(socket_path),
        identifier=client_id,
        transport="unix",
        protocol=aiomqtt.ProtocolVersion.V5,
        # The old session is dropped with all it holds; this one ends with the connection.
        clean_start=True,
        timeout=timeout_s,
    )
    try:
        async with taking:
            _log.debug("took the session of %s over at the broker, if it had one", client_id)
    except aiomqtt.MqttError as error:
        _log.error("the broker does not end the session of %s: %s", client_id, error)
        return False
    return True


def _expiring() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = link.ANSWER_EXPIRY_S
    return properties


def _tls_context(client: KeyPair, ca_pem: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_pem.decode())
    # Python's ssl reads keys from files only; the folder is private and gone at once.
    with tempfile.TemporaryDirectory(prefix="sprat-") as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        key.write_bytes(client.key_pem)
        certificate.write_bytes(client.certificate_pem)
        context.load_cert_chain(certificate, key)
    return context
