"""Both real ends of the conversation over both real carriers at their worst.

Whatever is lost, repeated, reordered, delayed or cut: every report and every audit record arrives
exactly once and in order, and the newest assignment is obeyed in the end, never an older one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
from simulators.faulty import Faults, FaultyCarrier
from simulators.image_keys import ImageKeys, ImageSigner
from simulators.link_ends import ControllerEnd, GrpcEnd, MqttEnd, carrier_for, enrolled
from simulators.migrated import empty_database
from simulators.pki import NOW, Pki
from simulators.sealed import KEY_PEM, SEED
from simulators.talking_device import TalkingDevice
from simulators.trusting import WorldRemote
from simulators.tuf_world import ImageWorld, TufWorld
from simulators.waiting import until
from simulators.wire import Wire
from sprat_agent.link.acknowledged import checked_by
from sprat_agent.sync import dialogue, flows
from sprat_controller.access.blob_credentials import BlobCredentials
from sprat_controller.audit.denials import Denials
from sprat_controller.clock import system_clock
from sprat_controller.fleet.ca import KeyPair, key_sha256_of_certificate
from sprat_controller.link.acknowledge import Acknowledger
from sprat_controller.link.conversation import Conversation, Welcoming
from sprat_controller.rollout import assign
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import Database
from sprat_controller.store.tables import (
    AuditRecord,
    Device,
    DeviceAuditRecord,
    Execution,
    Rollout,
)
from sprat_proto.audit_events import Tag
from sqlmodel import col, select

DEVICE = "pond-1"
EXECUTION = "execution-1"
REPORTS = 60
ASSIGNMENTS = 6
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def authority() -> Pki:
    return Pki()


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    made = empty_database(tmp_path / "controller.db")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent again after seconds is sent again soon: these tests lose many messages."""
    monkeypatch.setattr(dialogue, "HELLO_AGAIN_S", 0.1)
    monkeypatch.setattr(flows, "_FIRST_RETRANSMIT_S", 0.1)
    monkeypatch.setattr(flows, "_LONGEST_RETRANSMIT_S", 0.4)


@dataclass
class Pond:
    """A controller with its rows, and one device at the far end of a bad carrier."""

    database: Database
    end: ControllerEnd
    wire: Wire
    signer: Signer
    device: TalkingDevice
    carrier: FaultyCarrier

    def assign(self) -> int:
        """Issue and push the next assignment and return its version."""
        with self.database.transaction() as session:
            message = assign.issue(session, self.signer, DEVICE, system_clock())
        assert message is not None
        self.end.hub.push(DEVICE, message)
        return message.assignment.version

    def reports_kept(self) -> list[tuple[int, str]]:
        """Return number and content of each report that the controller took in, in its order."""
        with self.database.reading() as session:
            bodies = session.exec(
                select(AuditRecord.body)
                .where(AuditRecord.tag == Tag.EXECUTION_REPORTED_LATE.value)
                .order_by(col(AuditRecord.seq))
            ).all()
        details = [msgspec.json.decode(body)["detail"] for body in bodies]
        return [(detail["seq"], detail["running"]) for detail in details]

    def audit_kept(self) -> list[tuple[int, bytes, str]]:
        """Return position, body and hash of the device's audit as the controller has it."""
        with self.database.reading() as session:
            rows = session.exec(
                select(
                    DeviceAuditRecord.seq, DeviceAuditRecord.body, DeviceAuditRecord.hash
                ).order_by(col(DeviceAuditRecord.seq))
            )
            return [(seq, body, hash_) for seq, body, hash_ in rows]

    def heads(self) -> tuple[int, int]:
        """Return the number of the last report and of the last audit record, as in the row."""
        with self.database.reading() as session:
            columns = select(Device.report_seq, Device.audit_seq).where(Device.id == DEVICE)
            report_seq, audit_seq = session.exec(columns).one()
            return report_seq, audit_seq


def conversation(database: Database, signer: Signer, client: KeyPair) -> Conversation:
    return Conversation(
        database,
        system_clock,
        signer=signer,
        acknowledger=Acknowledger(client),
        credentials=BlobCredentials(b"0" * 32),
        denials=Denials(database),
        welcoming=Welcoming(1, ["https://127.0.0.1:1/blobs"], ["https://127.0.0.1:1/image"]),
        on_progress=lambda: None,
    )


def fill(database: Database, key_sha256: str) -> None:
    """Make the device known, and an execution that ended: each report of it is written down."""
    with database.transaction() as session:
        session.add(
            Device(
                id=DEVICE,
                state="REGISTERED",
                key_sha256=key_sha256,
                audit_key=KEY_PEM,
                audit_seed=SEED,
                enrolled_at=NOW,
            )
        )
        session.add(
            Rollout(
                id="rollout-1",
                name="r",
                model="m",
                release="1.0.0",
                alias="assistant",
                target={},
                context=256,
                state="FINISHED",
                max_in_progress=0,
                execution_timeout_s=60,
                created_at=NOW,
                created_by="token:test",
            )
        )
        session.flush()
        session.add(
            Execution(
                id=EXECUTION,
                rollout_id="rollout-1",
                device_id=DEVICE,
                position=0,
                state="CANCELED",
                verdicts=[],
                created_at=NOW,
                updated_at=NOW,
            )
        )


@pytest.fixture(params=["grpc", "mqtt"])
def carrier_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[1, 2, 3])
def seed(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
async def pond(
    carrier_name: str,
    seed: int,
    authority: Pki,
    database: Database,
    tmp_path: Path,
) -> AsyncIterator[Pond]:
    keys, image = ImageKeys(), ImageWorld(now=NOW.replace(microsecond=0))
    signer = ImageSigner(keys.online, keys.director, system_clock)
    receiver = conversation(database, signer, authority.client("controller"))
    end: ControllerEnd = (
        GrpcEnd(authority, receiver)
        if carrier_name == "grpc"
        else MqttEnd(authority, receiver, tmp_path / "broker")
    )
    await end.start()
    wire = Wire(end.address)
    identity = enrolled(DEVICE, tmp_path / "identity", authority, await wire.open())
    fill(database, key_sha256_of_certificate(identity.tls_path.read_bytes()))
    carrier = FaultyCarrier(carrier_for(carrier_name, identity), Faults(seed))
    check_ack = checked_by(identity.ca_path, DEVICE, system_clock)
    director_root = keys.found_director(NOW)["1.root.json"]
    trusting = replace(identity, image_root=image.pinned, director_root=director_root)
    remote = WorldRemote(TufWorld(image=image))
    device = TalkingDevice(trusting, tmp_path / "state", remote, [carrier], check_ack)
    try:
        yield Pond(database, end, wire, signer, device, carrier)
    finally:
        await device.stop()
        await wire.close()
        await end.stop()


async def test_everything_arrives_once_and_in_order_and_the_newest_is_obeyed(pond: Pond) -> None:
    device = pond.device
    device.start()
    newest = 0
    for number in range(1, REPORTS + 1):
        device.report(EXECUTION, f"{number:064d}")
        device.journal.append("agent:test:written", "test", {"number": number})
        if number % (REPORTS // ASSIGNMENTS) == 0:
            newest = await asyncio.to_thread(pond.assign)
        if number % (REPORTS // 3) == 0:
            # What was said so far is on its way: now the cable is pulled.
            await until(partial(_is_heard, pond, number // 2), TIMEOUT_S)
            pond.wire.cut()
    await until(lambda: device.ledger.assignment_version() == newest, TIMEOUT_S)
    await until(device.has_told_all, TIMEOUT_S)

    assert newest == ASSIGNMENTS
    assert device.obeyed == sorted(set(device.obeyed))
    assert pond.reports_kept() == [(n, f"{n:064d}") for n in range(1, REPORTS + 1)]
    kept = pond.audit_kept()
    assert [seq for seq, _, _ in kept] == list(range(1, device.journal.next_seq()))
    written = [msgspec.json.decode(body) for _, body, _ in kept]
    numbers = [one["detail"]["number"] for one in written if one["tag"] == "agent:test:written"]
    assert numbers == list(range(1, REPORTS + 1))
    assert pond.heads() == (REPORTS, kept[-1][0])
    # The carrier did its worst, or nothing was shown.
    for schedule in (pond.carrier.up, pond.carrier.down):
        assert min(schedule.lost, schedule.repeated, schedule.held) > 0


async def test_what_was_written_before_the_first_connection_arrives_too(pond: Pond) -> None:
    for number in range(1, 6):
        pond.device.report(EXECUTION, f"{number:064d}")
    newest = await asyncio.to_thread(pond.assign)
    pond.device.start()
    await until(lambda: pond.device.ledger.assignment_version() == newest, TIMEOUT_S)
    await until(pond.device.has_told_all, TIMEOUT_S)
    assert [seq for seq, _ in pond.reports_kept()] == [1, 2, 3, 4, 5]


def _is_heard(pond: Pond, report_seq: int) -> bool:
    return pond.heads()[0] >= report_seq
