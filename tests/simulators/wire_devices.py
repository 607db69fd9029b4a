"""Devices of `simulators.controlled` at the far end of real gRPC streams under mutual TLS.

`python -m simulators.wire_devices --token TOKEN --devices N` has N of them converse in one process
with the controller that `SPRAT_URL` and `SPRAT_CA` point to, until it is interrupted.

Each is enrolled at the real API, obeys what it is sent at once, and goes to the next of the
controllers' addresses when a stream ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import signal
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import Connection, LinkLostError, LinkUnavailableError
from sprat_agent.link.grpc import GrpcCarrier
from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage

from simulators.controlled import BIG, SimDevice, World
from simulators.device_keys import DeviceKeys, enrolment_json

if TYPE_CHECKING:
    from processes import Controller

HEARTBEAT_S: Final = 1.0
RECONNECT_S: Final = 0.05
# As many as one address may enrol at once (`fleet.rate.PER_SOURCE`).
AT_ONE_ADDRESS: Final = 100


class WireDevice(SimDevice):
    """Speaks over a stream; what it says is queued until there is one."""

    heartbeat_s = HEARTBEAT_S

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
            await asyncio.sleep(self.heartbeat_s)
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
    trusted = controller.cli_environment()["SPRAT_CA"]
    return enrol_by(token, controller.url, trusted, folder, count)


def enrol_by(token: str, url: str, ca: str, folder: Path, count: int) -> list[Identity]:
    """Enrol so many devices by one token at `url`, which the file `ca` vouches for."""
    enrolled: list[Identity] = []
    for first in range(0, count, AT_ONE_ADDRESS):
        address = f"127.0.0.{1 + first // AT_ONE_ADDRESS}"
        here = min(AT_ONE_ADDRESS, count - first)
        enrolled += _enrolled((url, ca, token), folder, here, address)
    return enrolled


def _enrolled(
    where: tuple[str, str, str], folder: Path, count: int, address: str
) -> Iterator[Identity]:
    url, ca, token = where
    trusted = ssl.create_default_context(cafile=ca)
    transport = httpx.HTTPTransport(verify=trusted, local_address=address)
    with httpx.Client(base_url=url, transport=transport) as api:
        for _ in range(count):
            keys = DeviceKeys()
            answer = api.post("/enrol", json=enrolment_json(token, keys))
            assert answer.status_code == httpx.codes.OK, answer.text
            yield _kept(folder, url, keys, answer.json())


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


def main(arguments: list[str]) -> int:
    """Enrol devices at a running controller and let them converse; return the exit status."""
    options = _parser().parse_args(arguments)
    if not options.url or not options.ca:
        sys.stderr.write("wire_devices: expected SPRAT_URL and SPRAT_CA, or --url and --ca\n")
        return 64
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, stop)
    with tempfile.TemporaryDirectory() as folder:
        identities = enrol_by(options.token, options.url, options.ca, Path(folder), options.devices)
        devices = [WireDevice(one, [one.grpc]) for one in identities]
        for device in devices:
            device.heartbeat_s = options.heartbeat_s
        fleet = WireFleet(devices)
        fleet.start()
        sys.stdout.write(f"{len(identities)} devices converse; interrupt to end\n")
        sys.stdout.flush()
        stopped.wait()
        fleet.stop()
    sys.stdout.write(f"{len(fleet.runs())} executions were carried out\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulators.wire_devices", description=__doc__)
    parser.add_argument("--token", required=True, help="of `sprat enrolment create --batch ...`")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--url", default=os.environ.get("SPRAT_URL"))
    parser.add_argument("--ca", default=os.environ.get("SPRAT_CA"), help="PEM file")
    parser.add_argument("--heartbeat-s", type=float, default=30.0)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
