"""The conversation over one gRPC stream under mutual TLS: no broker, no set-up.

The only file of the agent that imports grpc.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc
from sprat_proto import link
from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage
from sprat_proto.v1.link_pb2_grpc import LinkStub

from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import Connection, LinkLostError, LinkUnavailableError

CONNECT_TIMEOUT_S: Final = 20.0


class GrpcCarrier:
    """Connects to the address that enrolment named."""

    name: str = "grpc"

    def __init__(self, identity: Identity, *, keepalive_s: float = link.KEEPALIVE_S) -> None:
        """Prepare for `identity`; a silent peer is asked for a sign of life every `keepalive_s`."""
        self._identity = identity
        self._options = _options(keepalive_s)

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Open the stream; it is open once the controller has admitted this device.

        Raises:
            LinkUnavailableError: No connection, or not admitted; the message says which.
        """
        target = self._identity.grpc
        credentials = await asyncio.to_thread(_credentials, self._identity)
        async with grpc.aio.secure_channel(target, credentials, self._options) as channel:
            call = LinkStub(channel).Converse()
            try:
                await _admission(call, target)
                yield _GrpcConnection(call, target)
            finally:
                call.cancel()


class _GrpcConnection:
    def __init__(
        self, call: grpc.aio.StreamStreamCall[DeviceMessage, ControllerMessage], target: str
    ) -> None:
        self._call = call
        self._target = target
        # grpc takes one write at a time.
        self._writing = asyncio.Lock()

    async def send(self, message: DeviceMessage) -> None:
        link.check_size(message.ByteSize())
        try:
            async with self._writing:
                await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._lost() from error

    async def __aiter__(self) -> AsyncIterator[ControllerMessage]:
        while True:
            try:
                message = await self._call.read()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                raise await self._lost() from error
            # The end of the stream is told by a value of another type.
            if not isinstance(message, ControllerMessage):
                raise await self._lost()
            yield message

    async def _lost(self) -> LinkLostError:
        # A write fails a moment before the status is known; it always follows.
        code, details = await self._call.code(), await self._call.details()
        return LinkLostError(
            f"the stream to the controller at {self._target} ended: {code.name}, {details or '-'}"
        )


async def _admission(
    call: grpc.aio.StreamStreamCall[DeviceMessage, ControllerMessage], target: str
) -> None:
    """Wait until the controller has told by a header that this device is admitted.

    A refusal has headers too, and its status may come a moment after them.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if link.ADMITTED_HEADER in await call.initial_metadata():
                return
            code, details = await call.code(), await call.details()
    except TimeoutError as error:
        raise LinkUnavailableError(
            f"no answer from the controller at {target} in {CONNECT_TIMEOUT_S:.0f} s"
        ) from error
    raise LinkUnavailableError(
        f"the controller at {target} cannot be reached or does not admit this device:"
        f" {code.name}, {details}"
    )


def _credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Return what this device shows, read anew: it is renewed while the agent runs.

    A channel cannot change its certificate (grpc#41779), so each connection has a new channel.
    """
    try:
        # One read of one file: the key and the certificate of one moment.
        tls = identity.tls_path.read_bytes()
        return grpc.ssl_channel_credentials(
            root_certificates=identity.ca_path.read_bytes(),
            private_key=tls,
            certificate_chain=tls,
        )
    except OSError as error:
        raise LinkUnavailableError(f"this device's identity cannot be read: {error}") from error


def _options(keepalive_s: float) -> list[tuple[str, int]]:
    return [
        ("grpc.keepalive_time_ms", int(keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", link.KEEPALIVE_PATIENCE_S * 1000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_send_message_length", link.MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", link.MAX_MESSAGE_BYTES),
        # When to try again is decided above; a pooled connection would bring its own back-off.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
    ]
