"""Devices of `simulators.controlled` at the far end of real gRPC streams under mutual TLS.

Each is enrolled at the real API, obeys what it is sent at once, and goes to the next of the
controllers' addresses when a stream ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from processes import Controller
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import Connection, LinkLostError, LinkUnavailableError
from sprat_agent.link.grpc import GrpcCarrier
from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage

from simulators.controlled import BIG, SimDevice, World
from simulators.device_keys import DeviceKeys, enrolment_json

HEARTBEAT_S: Final = 0.2
RECONNECT_S: Final = 0.05
# As many as one address may enrol at once (`fleet.rate.PER_SOURCE`).
AT_ONE_ADDRESS: Final = 100


class WireDevice(SimDevice):
    """Speaks over a stream; what it says is queued until there is one."""

    def __init__(self, identity: Identity, addresses: Sequence[str]) -> None:
        self._said: asyncio.Queue[DeviceMessage] = asyncio.Queue()
        # A simulated device tells its world; this one's world is the queue.
        outgoing = SimpleNamespace(conversation=SimpleNamespace(receive=self._queue))
        super().__init__(cast("World", outgoing), identity.device_id, BIG)
        self._carriers = [GrpcCarrier(replace(identity, grpc=one)) for one in addresses]

    def _queue(
        self, device_id: str, carrier: str, message: DeviceMessage
    ) -> list[ControllerMessage]:
        del device_id, carrier
        self._said.put_nowait(message)
        return []

    async def run(self) -> None:
        """Converse until cancelled."""
        for carrier in itertools.cycle(self._carriers):
            with contextlib.suppress(LinkLostError, LinkUnavailableError):
                async with carrier.connect() as connection:
                    await self._converse(connection)
            await asyncio.sleep(RECONNECT_S)

    async def _converse(self, connection: Connection) -> None:
        self._said = asyncio.Queue()  # what was not sent is told again, in a Hello or by number
        self.hello()
        self.send_reports()
        talking = [
            asyncio.ensure_future(one)
            for one in (self._speak(connection), self._beat(), self._listen(connection))
        ]
        try:
            done, _ = await asyncio.wait(talking, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in talking:
                one.cancel()
            await asyncio.gather(*talking, return_exceptions=True)

    async def _speak(self, connection: Connection) -> None:
        while True:
            await connection.send(await self._said.get())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self.heartbeat()
            self.send_reports()

    async def _listen(self, connection: Connection) -> None:
        async for message in connection:
            self.hear(message)
            if self.under_way():
                self.finish()
            if message.HasField("assignment"):
                self.send_reports()


class WireFleet:
    """Many of them, in one thread with a loop of its own."""

    def __init__(self, devices: Iterable[WireDevice]) -> None:
        self.devices = {one.id: one for one in devices}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="wire-fleet")
        self._stopping = asyncio.Event()
        self._failures: list[Exception] = []

    def start(self) -> None:
        """Let all connect."""
        self._thread.start()

    def stop(self) -> None:
        """End all streams; what went wrong on a device is raised here."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()
        if self._failures:
            raise ExceptionGroup("devices failed", self._failures)

    def runs(self) -> dict[str, int]:
        """Return how often each execution was carried out, over all devices."""
        return {name: runs for one in self.devices.values() for name, runs in one.runs.items()}

    def _run(self) -> None:
        self._loop.run_until_complete(self._converse())

    async def _converse(self) -> None:
        running = [asyncio.ensure_future(one.run()) for one in self.devices.values()]
        await self._stopping.wait()
        for one in running:
            one.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        self._failures = [one for one in ended if isinstance(one, Exception)]


def enrol(controller: Controller, folder: Path, count: int) -> list[Identity]:
    """Enrol so many devices at once, from several addresses, and return who they are."""
    batch = ("--batch", "dev", "--count", str(count))
    token = str(controller.sprat("enrolment", "create", *batch, "-o", "json").json["token"])
    enrolled: list[Identity] = []
    for first in range(0, count, AT_ONE_ADDRESS):
        address = f"127.0.0.{1 + first // AT_ONE_ADDRESS}"
        here = min(AT_ONE_ADDRESS, count - first)
        enrolled += _enrolled(controller, folder, token, here, address)
    return enrolled


def _enrolled(
    controller: Controller, folder: Path, token: str, count: int, address: str
) -> Iterator[Identity]:
    trusted = ssl.create_default_context(cafile=controller.cli_environment()["SPRAT_CA"])
    transport = httpx.HTTPTransport(verify=trusted, local_address=address)
    with httpx.Client(base_url=controller.url, transport=transport) as api:
        for _ in range(count):
            keys = DeviceKeys()
            answer = api.post("/enrol", json=enrolment_json(token, keys))
            assert answer.status_code == httpx.codes.OK, answer.text
            yield _kept(folder, controller.url, keys, answer.json())


def _kept(folder: Path, url: str, keys: DeviceKeys, given: dict[str, Any]) -> Identity:
    place = folder / str(given["device_id"])
    place.mkdir(parents=True)
    identity = Identity(
        device_id=str(given["device_id"]),
        group=str(given["group"]),
        folder=place,
        controller_url=url,
        grpc=str(given["grpc"]),
        mqtt=None,
        identity_key="file",
        image_root=b"",
        director_root=b"",
    )
    key = keys.tls.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    identity.tls_path.write_bytes(key + str(given["certificate"]).encode())
    identity.ca_path.write_bytes(str(given["ca"]).encode())
    return identity
