"""The gRPC server: one stream per device, under mutual TLS.

A device is the common name of its certificate, nothing it says. The only file of the controller
that imports grpc.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Final, TypeAlias

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID
from sprat_proto import link, topics
from sprat_proto.v1.link_pb2 import DESCRIPTOR, ControllerMessage, DeviceMessage

from sprat_controller.errors import StartupError
from sprat_controller.fleet.ca import KeyPair, key_sha256
from sprat_controller.link.hub import Hub, Receiver, Session, SessionClosedError

CARRIER: Final = "grpc"
STOP_GRACE_S: Final = 1.0
_STOPPING: Final = "the controller stops"
_Context: TypeAlias = "grpc.aio.ServicerContext[DeviceMessage, ControllerMessage]"
_log = logging.getLogger(__name__)


class GrpcServer:
    """Listens for devices until it is stopped."""

    def __init__(
        self,
        hub: Hub,
        receiver: Receiver,
        *,
        ca_pem: bytes,
        server: KeyPair,
        host: str = "127.0.0.1",
        port: int = 0,
        keepalive_s: float = link.KEEPALIVE_S,
    ) -> None:
        """Prepare to listen on `host`:`port` (0: any free port).

        Args:
            hub: Where sessions are opened.
            receiver: What takes in the devices' words.
            ca_pem: Whose certificates are accepted.
            server: This server's certificate and key.
            host: Name or address to listen on.
            port: Port to listen on.
            keepalive_s: How often a silent device is asked for a sign of life.
        """
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._credentials = grpc.ssl_server_credentials(
            [(server.key_pem, server.certificate_pem)],
            root_certificates=ca_pem,
            require_client_auth=True,
        )
        self._options = _options(keepalive_s)
        self._receiver = receiver
        self._hub = hub
        self._conversations = _Conversations(hub, receiver)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Start to listen and return the port.

        Raises:
            StartupError: The address cannot be bound.
        """
        server = grpc.aio.server(options=self._options)
        self._conversations = _Conversations(self._hub, self._receiver)
        server.add_generic_rpc_handlers([_handler(self._conversations)])
        try:
            port = server.add_secure_port(self._address, self._credentials)
        except RuntimeError as error:
            raise StartupError(
                "grpc_port", f"cannot listen for devices on {self._address}: {error}"
            ) from error
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """End all streams and wait until the receiver knows of it."""
        if self._server is not None:
            stopping = asyncio.create_task(self._server.stop(STOP_GRACE_S))
            self._conversations.end_all()
            await stopping
            self._server = None
        await self._hub.lanes.drain()


def _handler(conversations: _Conversations) -> grpc.GenericRpcHandler:
    # By hand instead of the generated servicer, whose types are those of the blocking API.
    converse = grpc.stream_stream_rpc_method_handler(
        conversations.converse,
        request_deserializer=DeviceMessage.FromString,
        response_serializer=ControllerMessage.SerializeToString,
    )
    service = DESCRIPTOR.services_by_name["Link"].full_name
    return grpc.method_handlers_generic_handler(service, {"Converse": converse})


class _Conversations:
    """The handler of the one method of the service."""

    def __init__(self, hub: Hub, receiver: Receiver) -> None:
        self._hub = hub
        self._receiver = receiver
        self._sessions: set[Session] = set()
        self._is_ending = False

    def end_all(self) -> None:
        """End each conversation and begin no other; the devices are told the reason."""
        self._is_ending = True
        for session in self._sessions:
            session.close(_STOPPING)

    async def converse(self, requests: AsyncIterator[DeviceMessage], context: _Context) -> None:
        """Hold the conversation of one device from its admission to its end."""
        device_id = await self._admitted(context)
        if self._is_ending:
            await context.abort(grpc.StatusCode.UNAVAILABLE, _STOPPING)
        session = self._hub.open(device_id, CARRIER, self._receiver)
        self._sessions.add(session)
        try:
            await context.send_initial_metadata(((link.ADMITTED_HEADER, "1"),))
            await self._hold(session, requests, context)
        finally:
            self._hub.close(session)
            self._sessions.discard(session)

    async def _hold(
        self, session: Session, requests: AsyncIterator[DeviceMessage], context: _Context
    ) -> None:
        tasks = {
            asyncio.create_task(self._listen(session, requests)),
            asyncio.create_task(_speak(session, context)),
        }
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended:
            await _tell_reason(session.device_id, task.exception(), context)

    async def _admitted(self, context: _Context) -> str:
        device_id, key_sha256 = _peer(context)
        if not topics.is_device_id(device_id) or not await asyncio.to_thread(
            self._receiver.admit, device_id, key_sha256
        ):
            _log.warning("refused %r: not an enrolled device with this key", device_id[:80])
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{device_id[:80]!r} with this key is not enrolled here, or was revoked:"
                " enrol it anew",
            )
        return device_id

    async def _listen(self, session: Session, requests: AsyncIterator[DeviceMessage]) -> None:
        async for message in requests:
            if session.is_closed:
                return
            receive = partial(self._receiver.receive, session.device_id, CARRIER, message)
            for answer in await self._hub.lanes.run(session.device_id, receive):
                session.put(answer)


async def _speak(session: Session, context: _Context) -> None:
    while True:
        await context.write(await session.next())


async def _tell_reason(device_id: str, error: BaseException | None, context: _Context) -> None:
    """End the stream with the status that says why, unless the device itself ended it."""
    if isinstance(error, SessionClosedError):
        await context.abort(grpc.StatusCode.ABORTED, str(error))
    if error is not None:
        _log.error("device %s: its stream ends", device_id, exc_info=error)
        await context.abort(
            grpc.StatusCode.INTERNAL, "the controller failed on a message; see its log"
        )


def _peer(context: _Context) -> tuple[str, str]:
    """Return the common name and the key's hash of the certificate that TLS has verified."""
    (pem,) = context.auth_context()["x509_pem_cert"]
    certificate = x509.load_pem_x509_certificate(pem)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value), key_sha256(certificate)


def _options(keepalive_s: float) -> list[tuple[str, int]]:
    return [
        ("grpc.keepalive_time_ms", int(keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", link.KEEPALIVE_PATIENCE_S * 1000),
        # Devices ask for signs of life as often as we do; more often is an attack.
        ("grpc.http2.min_ping_interval_without_data_ms", int(keepalive_s * 500)),
        ("grpc.max_send_message_length", link.MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", link.MAX_MESSAGE_BYTES),
        # A device has one stream, and a replaced one until it has ended.
        ("grpc.max_concurrent_streams", 4),
        # Two controllers must never share a port by accident.
        ("grpc.so_reuseport", 0),
    ]
