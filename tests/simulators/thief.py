"""Who owns the controller's host: every online key, every row, every blob; no offline key.

The thief kills the controller and answers in its place, with certificates of the stolen issuer, on
the same ports: the devices come by themselves. What a device is told is whatever he likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from processes import Controller, wait_for
from securesystemslib.signer import CryptoSigner
from sprat_controller.clock import system_clock
from sprat_controller.fleet.ca import KeyPair, certified
from sprat_controller.link.acknowledge import Acknowledger
from sprat_controller.link.grpc import GrpcServer
from sprat_controller.link.hub import Hub
from sprat_controller.signer.folder import DIRECTOR, IMAGE, SignerFolder
from sprat_controller.signer.keys import Place, open_key
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import Variant
from sprat_controller.trust import repository
from sprat_proto import assignment, canonical, manifest, notes, trust
from sprat_proto.assignment import AssignedModel, Assignment, Policy
from sprat_proto.capability import CAPABILITY
from sprat_proto.manifest import Manifest
from sprat_proto.v1 import link_pb2
from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage
from sqlmodel import select
from tuf.api.metadata import TargetFile

from simulators.blob_source import BlobSource, serving
from simulators.tuf_world import DirectorWorld, target_of

NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass
class Loot:
    """What lies on the controller's host."""

    director: CryptoSigner
    image: CryptoSigner
    server: KeyPair
    acknowledger: Acknowledger
    image_files: dict[str, bytes]
    director_root: bytes
    manifests: dict[str, Manifest]  # by release
    blobs: dict[str, bytes]

    @classmethod
    def take(cls, data: Path) -> Loot:
        """Open everything that the controller could."""
        folder = SignerFolder(data / "signer")
        core = folder.open(system_clock)
        passphrase = folder.passphrase()
        keys = {
            name: CryptoSigner(open_key(Place(f"file:{name}.pem", folder.path, passphrase)))
            for name in (DIRECTOR, IMAGE)
        }
        database = Database(sqlite_url(data / "controller.db"))
        with database.reading() as session:
            image = dict(repository.current(session, trust.IMAGE).files)
            root = repository.current(session, trust.DIRECTOR).newest("root")[1]
            variants = session.exec(select(Variant.manifest)).all()
        database.close()
        manifests = [manifest.decode(body) for body in variants]
        loot = cls(
            director=keys[DIRECTOR],
            image=keys[IMAGE],
            server=certified(core, "server", NAMES[0], NAMES),
            acknowledger=Acknowledger(certified(core, "client", "controller")),
            image_files=image,
            director_root=root,
            manifests={one.release: one for one in manifests},
            blobs={
                path.name: path.read_bytes()
                for path in (data / "blobs" / "sha256").glob("*/*")
                if path.is_file()
            },
        )
        core.close()
        return loot


@dataclass
class Thief:
    """Answers in the controller's place; thread-safe, for it runs beside the test."""

    loot: Loot
    source: BlobSource
    now: datetime
    reports: list[link_pb2.ExecutionReport] = field(default_factory=list[link_pb2.ExecutionReport])
    audit: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(list[dict[str, Any]])
    )
    plans: dict[str, link_pb2.Assignment] = field(default_factory=dict[str, link_pb2.Assignment])
    version: int = 1 << 20
    running: dict[str, bool] = field(default_factory=dict[str, bool])

    def __post_init__(self) -> None:
        self.director = DirectorWorld(self.now)
        self.director.roots = [self.loot.director_root]
        self.director.version = int(self.now.timestamp()) + 1000
        self._lock = threading.Lock()

    # What he may say

    def assigned(self, one: Manifest, execution: str, alias: str = "assistant") -> AssignedModel:
        """Return an assignment of a manifest, his own or a stolen one."""
        data = manifest.encode(one)
        self.source.blobs[canonical.sha256_hex(data)] = data
        return AssignedModel(
            alias=alias,
            publisher=one.publisher,
            model=one.model,
            release=one.release,
            variant=one.variant,
            digest=canonical.sha256_hex(data),
            size=len(data),
            execution_id=execution,
            rollout_id="stolen",
        )

    def say(
        self,
        device_id: str,
        models: Sequence[AssignedModel],
        targets: Sequence[TargetFile],
        *,
        for_device: str | None = None,
        by: CryptoSigner | None = None,
        context: int = 256,
    ) -> None:
        """Have the device told this plan from now on, whenever it speaks."""
        self.version += 1
        stated = Assignment(
            schema=assignment.SCHEMA,
            device_id=for_device or device_id,
            version=self.version,
            issued=self.now.isoformat().replace("+00:00", "Z"),
            models=list(models),
            policy=Policy(context),
        )
        plan = self.director.issue(
            assignment.to_custom(stated), targets, by=by or self.loot.director
        )
        plan.version = self.version
        del plan.roots[:]
        with self._lock:
            self.plans[device_id] = plan

    def order(self, device_id: str, one: Manifest, execution: str) -> None:
        """Have the device told to run a manifest, with targets that fit it."""
        self.say(device_id, [self.assigned(one, execution)], [target_of(one)])

    # What he hears

    def outcome(self, execution: str) -> link_pb2.ExecutionReport:
        """Wait for the end of an execution and return its last report."""

        def look() -> link_pb2.ExecutionReport | None:
            with self._lock:
                mine = [one for one in self.reports if one.execution_id == execution]
            final = {"SUCCEEDED", "FAILED", "REJECTED", "CANCELED", "ROLLED_BACK"}
            return mine[-1] if mine and mine[-1].state in final else None

        return wait_for(f"the end of {execution}", look, timeout_s=90)

    def refusal(self, device_id: str, code: str, after: int) -> dict[str, Any]:
        """Wait for a refused plan in the device's audit, behind position `after`."""

        def look() -> dict[str, Any] | None:
            with self._lock:
                found = [
                    one
                    for one in self.audit[device_id]
                    if one["seq"] > after
                    and one["tag"] == "agent:assignment:refused"
                    and one["detail"]["code"] == code
                ]
            return found[-1] if found else None

        return wait_for(f"a refusal {code}", look, timeout_s=60)

    def heard(self, device_id: str) -> int:
        """Return the position of the last audit record that was heard of a device."""
        with self._lock:
            return self.audit[device_id][-1]["seq"] if self.audit[device_id] else 0

    # As a `hub.Receiver`

    def admit(self, device_id: str, key_sha256: str | None) -> bool:
        del device_id, key_sha256
        return True

    def connected(self, device_id: str, carrier: str) -> None:
        del device_id, carrier

    def disconnected(self, device_id: str, carrier: str) -> None:
        del device_id, carrier

    def receive(
        self, device_id: str, carrier: str, message: DeviceMessage
    ) -> list[ControllerMessage]:
        del carrier
        with self._lock:
            return list(self._answers(device_id, message))

    def _answers(self, device_id: str, message: DeviceMessage) -> Generator[ControllerMessage]:
        match message.WhichOneof("body"):
            case "hello":
                yield self._welcome()
                yield from self._plan(device_id)
            case "heartbeat":
                self.running[device_id] = bool(message.heartbeat.running)
                yield from self._plan(device_id)
            case "report":
                self.reports.append(message.report.execution)
                ack = link_pb2.ReportAck(up_to=message.report.seq)
                yield ControllerMessage(report_ack=ack)
            case "audit":
                self.audit[device_id] += [json.loads(one.body) for one in message.audit.records]
                last = message.audit.records[-1]
                note = notes.read_note(message.audit.checkpoint)
                root = notes.read_checkpoint(note.text).root
                yield self.loot.acknowledger.audit_ack(device_id, last.seq, root)
            case _:
                pass

    def _plan(self, device_id: str) -> Generator[ControllerMessage]:
        if device_id in self.plans:
            yield ControllerMessage(assignment=self.plans[device_id])

    def _welcome(self) -> ControllerMessage:
        return ControllerMessage(
            welcome=link_pb2.Welcome(
                capability=CAPABILITY,
                heartbeat_s=1,
                reconnect_spread_s=1,
                blob_base_urls=[self.source.url],
                image_base_urls=[self.source.url.removesuffix("/blobs") + "/image"],
                blob_credential=self.source.bearer,
                blob_credential_expires_ms=int((time.time() + 86400) * 1000),
                controller_time_ms=int(self.now.timestamp() * 1000),
            )
        )


@contextmanager
def stolen(controller: Controller, folder: Path) -> Generator[Thief]:
    """Kill the controller and yield who answers in its place."""
    said = json.loads(controller.ready_file.read_text(encoding="utf-8"))
    port = int(said["grpc"].rpartition(":")[2])
    controller.kill()
    loot = Loot.take(controller.data)
    certificate, key = folder / "stolen.pem", folder / "stolen.key"
    certificate.write_bytes(loot.server.certificate_pem)
    key.write_bytes(loot.server.key_pem)
    source = BlobSource(blobs=loot.blobs | loot.image_files)
    with serving(source, certificate, key):
        thief = Thief(loot, source, system_clock().replace(microsecond=0))
        with _listening(thief, (controller.data / "ca.pem").read_bytes(), port):
            yield thief


@contextmanager
def _listening(thief: Thief, ca_pem: bytes, port: int) -> Generator[None]:
    """Answer devices in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stopping = asyncio.Event()

    async def serve() -> None:
        server = GrpcServer(
            Hub(), thief, ca_pem=ca_pem, server=thief.loot.server, host="127.0.0.1", port=port
        )
        await server.start()
        started.set()
        await stopping.wait()
        await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait(30)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        with contextlib.suppress(RuntimeError):
            loop.close()
