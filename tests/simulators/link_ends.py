"""The controller's end of each carrier, real down to the socket, and enrolled devices for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Protocol

from processes import lasting_port
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import Carrier
from sprat_agent.link.grpc import GrpcCarrier
from sprat_agent.link.mqtt import MqttCarrier as DeviceMqttCarrier
from sprat_controller.fleet.ca import KeyPair, key_sha256_of_certificate
from sprat_controller.link.broker import ManagedBroker
from sprat_controller.link.grpc import GrpcServer
from sprat_controller.link.hub import Hub, Receiver
from sprat_controller.link.mqtt import MqttCarrier

from simulators.pki import Pki
from simulators.receiver import RecordingReceiver


class ControllerEnd(Protocol):
    """What a contract test needs of the controller's end, whatever the carrier."""

    name: str
    hub: Hub
    authority: Pki

    @property
    def address(self) -> str:
        """Where devices connect to; the same after a restart."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class GrpcEnd:
    """A gRPC server."""

    name = "grpc"

    def __init__(self, authority: Pki, receiver: Receiver) -> None:
        self.hub = Hub()
        self.authority = authority
        self._receiver = receiver
        self._port = lasting_port()
        self._server: GrpcServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._server = GrpcServer(
            self.hub,
            self._receiver,
            ca_pem=self.authority.ca_pem,
            server=self.authority.server(),
            port=self._port,
        )
        self._port = await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None


class MqttEnd:
    """A managed Mosquitto, and the controller connected to it."""

    name = "mqtt"

    def __init__(self, authority: Pki, receiver: Receiver, folder: Path) -> None:
        self.hub = Hub()
        self.authority = authority
        self._receiver = receiver
        self._folder = folder
        self._port = lasting_port()
        self._running: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        self.broker = ManagedBroker(
            self._folder,
            ca_pem=self.authority.ca_pem,
            revocations=self.authority.revocation_list(),
            server=self.authority.server(),
            port=self._port,
        )
        self._port = await self.broker.start()
        await self.join()

    async def join(self) -> None:
        """Connect the controller to the broker."""
        self.carrier = MqttCarrier(
            self.hub,
            self._receiver,
            host="127.0.0.1",
            port=self._port,
            client=self.authority.client("controller"),
            ca_pem=self.authority.ca_pem,
            group="a-secret-of-the-controllers",
        )
        self._running = asyncio.create_task(self.carrier.run())
        await self.carrier.connected.wait()

    async def leave(self) -> None:
        """Stop the controller; the broker runs on."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    async def stop(self) -> None:
        await self.leave()
        await self.broker.stop()

    def kill_broker(self) -> None:
        """Take the broker's power away."""
        pid = self.broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


def enrolled(
    device_id: str,
    folder: Path,
    authority: Pki,
    address: str,
    *,
    certified: KeyPair | None = None,
) -> Identity:
    """Return a device as enrolment leaves it, or with a certificate that it should not have."""
    folder.mkdir()
    certified = certified or authority.client(device_id)
    identity = bare_identity(device_id, folder, address)
    identity.tls_path.write_bytes(certified.key_pem + certified.certificate_pem)
    identity.ca_path.write_bytes(authority.root_pem)
    return identity


def bare_identity(device_id: str, folder: Path, address: str) -> Identity:
    """Return an identity whose files are in `folder`, or not."""
    return Identity(
        device_id=device_id,
        group="default",
        folder=folder,
        controller_url="https://127.0.0.1:1",
        grpc=address,
        mqtt=address,
        identity_key="file",
        image_root=b"",
        director_root=b"",
    )


def carrier_for(end_name: str, identity: Identity, *, timeout_s: float = 10.0) -> Carrier:
    """Return the device's end that speaks to the controller's end of this name."""
    if end_name == "grpc":
        return GrpcCarrier(identity)
    return DeviceMqttCarrier(identity, timeout_s=timeout_s)


def admit(receiver: RecordingReceiver, identity: Identity) -> None:
    """Have the receiver know the device and its key."""
    receiver.admitted[identity.device_id] = key_sha256_of_certificate(
        identity.tls_path.read_bytes()
    )
