"""The conversation over MQTT v5: a broker keeps what is for this device while it is away.

The only file of the agent that imports aiomqtt and paho.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import aiomqtt
from google.protobuf.message import DecodeError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sprat_proto import link, topics
from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage

from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import Connection, LinkLostError, LinkUnavailableError

# For each answer of the broker: to the connection, to a subscription, to a message.
TIMEOUT_S: Final = 10.0
_INCOMING_LIMIT: Final = 256
_QOS: Final = 1
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class MqttCarrier:
    """Connects to the broker that enrolment named, as the name in this device's certificate."""

    name: str = "mqtt"

    def __init__(
        self,
        identity: Identity,
        *,
        keepalive_s: int = link.KEEPALIVE_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Prepare for `identity`; a silent broker is asked for a sign of life every `keepalive_s`.

        Raises:
            LinkUnavailableError: The identity names no broker.
        """
        if identity.mqtt is None:
            raise LinkUnavailableError(f"{identity.device_id} was enrolled without an MQTT broker")
        self._identity = identity
        self._address = identity.mqtt
        self._keepalive_s = keepalive_s
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Connect, subscribe, and say that this device is there; on leaving say that it is not.

        Raises:
            LinkUnavailableError: No connection, or the broker refused; the message says which.
        """
        device_id = self._identity.device_id
        client = self._client()
        try:
            await client.__aenter__()
        except aiomqtt.MqttError as error:
            raise LinkUnavailableError(
                f"the broker at {self._address} cannot be reached or refuses this device: {error}"
            ) from error
        try:
            await self._announce(client)
            connection = _MqttConnection(client, device_id, self._address)
            try:
                yield connection
            finally:
                await connection.close()
        finally:
            await self._leave(client)

    def _client(self) -> aiomqtt.Client:
        host, _, port = self._address.rpartition(":")
        device_id = self._identity.device_id
        return aiomqtt.Client(
            host.strip("[]"),
            int(port),
            identifier=device_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=_connect_properties(),
            keepalive=self._keepalive_s,
            timeout=self._timeout_s,
            # By the last will the broker speaks for a device that went without a word.
            will=aiomqtt.Will(topics.presence(device_id), topics.OFFLINE, qos=_QOS, retain=True),
            tls_params=aiomqtt.TLSParameters(
                ca_certs=str(self._identity.ca_path),
                certfile=str(self._identity.tls_path),
            ),
        )

    async def _announce(self, client: aiomqtt.Client) -> None:
        device_id = self._identity.device_id
        try:
            # Subscribed first: the answer to what follows must not be missed.
            await client.subscribe(
                [(topics.down(device_id), _QOS), (topics.assignment(device_id), _QOS)]
            )
            await client.publish(topics.presence(device_id), topics.ONLINE, qos=_QOS, retain=True)
        except aiomqtt.MqttError as error:
            raise LinkUnavailableError(
                f"the broker at {self._address} ended the connection of {device_id}: {error}"
            ) from error

    async def _leave(self, client: aiomqtt.Client) -> None:
        try:
            await client.publish(
                topics.presence(self._identity.device_id), topics.OFFLINE, qos=_QOS, retain=True
            )
            await client.__aexit__(None, None, None)
        except aiomqtt.MqttError as error:
            # It was lost already: the last will says what we could not.
            _log.debug("leaving the broker at %s: %s", self._address, error)


class _MqttConnection:
    """Reads by itself, so that whoever sends learns at once when the connection is lost."""

    def __init__(self, client: aiomqtt.Client, device_id: str, address: str) -> None:
        self._client = client
        self._address = address
        self._up = topics.up(device_id)
        # One at a time keeps the order of messages.
        self._writing = asyncio.Lock()
        self._arrived: asyncio.Queue[ControllerMessage] = asyncio.Queue()
        # It ends with the connection, and with the error that ended it.
        self._reading = asyncio.create_task(self._read())

    async def send(self, message: DeviceMessage) -> None:
        link.check_size(message.ByteSize())
        async with self._writing:
            await self._unless_lost(
                self._client.publish(self._up, message.SerializeToString(), qos=_QOS)
            )

    async def __aiter__(self) -> AsyncIterator[ControllerMessage]:
        while True:
            yield await self._unless_lost(self._arrived.get())

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for packet in self._client.messages:
            message = _decode(packet)
            if message is None:
                continue
            if self._arrived.qsize() >= _INCOMING_LIMIT:
                _log.warning("dropped a message: %d wait already", _INCOMING_LIMIT)
                continue
            self._arrived.put_nowait(message)

    async def _unless_lost(self, action: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.create_task(action)
        try:
            await asyncio.wait({task, self._reading}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        except aiomqtt.MqttError as error:
            raise self._lost(error) from error
        finally:
            task.cancel()
        raise self._lost(None if self._reading.cancelled() else self._reading.exception())

    def _lost(self, error: BaseException | None) -> LinkLostError:
        reason = "it was closed" if error is None else (error.__cause__ or error)
        return LinkLostError(f"the connection to the broker at {self._address} ended: {reason}")


def _decode(packet: aiomqtt.Message) -> ControllerMessage | None:
    try:
        return ControllerMessage.FromString(packet.payload)
    except DecodeError as error:
        # Only the controller may write here; a broker that lets others must not stop this device.
        _log.warning("dropped a message on %s that is none: %s", packet.topic, error)
        return None


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = link.SESSION_EXPIRY_S
    return properties
