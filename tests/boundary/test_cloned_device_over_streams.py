"""One disk that runs twice, by real agents' conversations over real streams: noticed by both."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.image_keys import ImageKeys, ImageSigner
from simulators.link_ends import GrpcEnd, carrier_for, enrolled
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
from sprat_controller.fleet.ca import key_sha256_of_certificate
from sprat_controller.link import copies
from sprat_controller.link.acknowledge import Acknowledger
from sprat_controller.link.conversation import Conversation, Welcoming
from sprat_controller.store.tables import AuditRecord, Device
from sprat_proto.audit_events import Tag
from sqlmodel import select

DEVICE = "pond-1"


async def test_a_disk_that_runs_twice_at_once_is_in_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue, "HELLO_AGAIN_S", 0.1)
    monkeypatch.setattr(flows, "_FIRST_RETRANSMIT_S", 0.1)
    monkeypatch.setattr(copies, "DELAYED", timedelta())
    authority, keys = Pki(), ImageKeys()
    database = empty_database(tmp_path / "controller.db")
    signer = ImageSigner(keys.online, keys.director, system_clock)
    receiver = Conversation(
        database,
        system_clock,
        signer=signer,
        acknowledger=Acknowledger(authority.client("controller")),
        credentials=BlobCredentials(b"0" * 32),
        denials=Denials(database),
        welcoming=Welcoming(1, ["https://127.0.0.1:1/blobs"], ["https://127.0.0.1:1/image"]),
        on_progress=lambda: None,
    )
    end = GrpcEnd(authority, receiver)
    await end.start()
    wire = Wire(end.address)
    identity = enrolled(DEVICE, tmp_path / "identity", authority, await wire.open())
    with database.transaction() as session:
        session.add(
            Device(
                id=DEVICE,
                state="REGISTERED",
                key_sha256=key_sha256_of_certificate(identity.tls_path.read_bytes()),
                audit_key=KEY_PEM,
                audit_seed=SEED,
                enrolled_at=NOW,
            )
        )
    image = ImageWorld(now=NOW.replace(microsecond=0))
    director_root = keys.found_director(NOW)["1.root.json"]
    trusting = replace(identity, image_root=image.pinned, director_root=director_root)
    check_ack = checked_by(identity.ca_path, DEVICE, system_clock)

    def device(name: str) -> TalkingDevice:
        return TalkingDevice(
            trusting,
            tmp_path / name,
            WorldRemote(TufWorld(image=image)),
            [carrier_for("grpc", identity)],
            check_ack,
            boot=f"boot-of-{name}",
        )

    def tags() -> list[str]:
        with database.reading() as session:
            return list(session.exec(select(AuditRecord.tag)))

    original = device("original")
    original.journal.append("agent:test:written", "test", {})
    original.start()
    await until(original.has_told_all, 30)
    await original.stop()
    shutil.copytree(tmp_path / "original", tmp_path / "clone")
    running = [device("original"), device("clone")]
    for one in running:
        one.start()
    try:
        await until(lambda: Tag.DEVICE_AUDIT_COPIED in tags(), 60)
    finally:
        for one in running:
            await one.stop()
        await wire.close()
        await end.stop()
    with database.reading() as session:
        row = session.get(Device, DEVICE)
        assert row is not None
        assert row.quarantine_reason == "copied"
    assert tags().count(Tag.DEVICE_QUARANTINED) == 1
    database.close()
