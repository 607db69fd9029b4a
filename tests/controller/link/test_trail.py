"""A device's audit log as it arrives: order, seals, checkpoints, alarms (T30 to T33, T35)."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.controlled import PKI, World
from simulators.pki import NOW
from simulators.sealed import KEY, SEED, batch_of, root_of, sealed
from simulators.signing_desk import Desk
from sprat_controller.audit import retention
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.expiries import Policy
from sprat_controller.audit.expiring import Expiring
from sprat_controller.audit.retention import Held
from sprat_controller.audit.verify import ChainReport, verify_device
from sprat_controller.store.tables import AuditExpiry, Device, DeviceAuditRecord
from sprat_proto import acknowledgement, audit_seal, device_log, merkle
from sprat_proto.acknowledgement import AckRefusedError
from sprat_proto.audit_events import Tag
from sprat_proto.audit_seal import EPOCH, SealKey
from sprat_proto.merkle import EMPTY_ROOT
from sprat_proto.v1 import link_pb2
from sprat_proto.v1.link_pb2 import AuditBatch, AuditRecord
from sqlmodel import col, select


def trail(length: int) -> list[AuditRecord]:
    return sealed([said(seq) for seq in range(1, length + 1)])


def said(seq: int, tag: str = "agent:test:made") -> bytes:
    return json.dumps({"seq": seq, "tag": tag}).encode()


def upload(world: World, batch: AuditBatch) -> link_pb2.AuditAck:
    message = link_pb2.DeviceMessage(audit=batch)
    answers = world.conversation.receive("a", "grpc", message)
    assert [one.WhichOneof("body") for one in answers] == ["audit_ack"]
    return answers[0].audit_ack


def some(log: list[AuditRecord], *chosen: int) -> AuditBatch:
    return batch_of(log, *chosen, device_id="a")


def all_of(log: list[AuditRecord], size: int | None = None) -> AuditBatch:
    return some(log, *range(1, (size or len(log)) + 1))


def kept(world: World) -> list[tuple[int, bytes]]:
    with world.database.reading() as session:
        rows = session.exec(select(DeviceAuditRecord).order_by(col(DeviceAuditRecord.seq)))
        return [(row.seq, row.body) for row in rows]


def checked(world: World) -> ChainReport:
    with world.database.reading() as session:
        return verify_device(session, "a")


def alarms(world: World, tag: Tag = Tag.DEVICE_AUDIT_BROKEN) -> list[tuple[int, str]]:
    found = [one["detail"] for one in world.audited(tag)]
    return [(one["position"], one["message"]) for one in found]


def test_a_log_arrives_in_order_and_is_acknowledged_with_its_root(world: World) -> None:
    world.join("a")
    log = trail(5)
    empty = upload(world, AuditBatch())
    assert (empty.up_to, empty.root) == (0, EMPTY_ROOT)
    assert upload(world, all_of(log, 2)).up_to == 2
    ack = upload(world, some(log, 2, 3, 4, 5))
    assert (ack.up_to, ack.root) == (5, root_of(log))
    assert kept(world) == [(one.seq, one.body) for one in log]
    assert checked(world) == ChainReport(
        ok=True, records=5, head=root_of(log).hex(), message="5 records, unbroken"
    )
    with world.database.reading() as session:
        device = session.get(Device, "a")
        assert device is not None
        assert device.audit_checkpoint == all_of(log).checkpoint


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, 12), max_size=12), max_size=12))
def test_t35_whatever_order_it_comes_in_nothing_is_lost_twice_or_out_of_order(
    batches: list[list[int]],
) -> None:
    world = World()
    world.join("a")
    log = trail(12)
    for chosen in batches:
        upload(world, some(log, *chosen))
        seqs = [seq for seq, _ in kept(world)]
        assert seqs == list(range(1, len(seqs) + 1))
    ack = upload(world, all_of(log))
    assert (ack.up_to, ack.root) == (12, root_of(log))
    assert kept(world) == [(one.seq, one.body) for one in log]
    assert alarms(world) == []
    world.close()


def changed(record: AuditRecord, **changes: Any) -> AuditRecord:
    copy = AuditRecord.FromString(record.SerializeToString())
    for name, value in changes.items():
        setattr(copy, name, value)
    return copy


def test_t30_an_edited_record_is_an_alarm_once_and_nothing_beyond_it_is_acknowledged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.join("a")
    log = trail(4)
    forged = [*log[:2], changed(log[2], body=said(3, "x:y:z")), log[3]]
    for _ in range(3):
        assert upload(world, all_of(forged)).up_to == 2
    assert [seq for seq, _ in alarms(world)] == [3]
    assert "device/a is broken at record 3" in caplog.text
    assert upload(world, all_of(log)).up_to == 4


@pytest.mark.parametrize("at", [1, 2, 3])
def test_t30_a_deleted_inserted_or_moved_record_is_named(world: World, at: int) -> None:
    """Renumbered by who has not the keys of then: the first that is not what it was."""
    world.join("a")
    log = trail(5)
    bodies = [one.body for one in log]
    for wrong in (
        [*bodies[: at - 1], *bodies[at:]],
        [*bodies[: at - 1], b'{"seq": 0}', *bodies[at - 1 :]],
        [*bodies[: at - 1], bodies[at], bodies[at - 1], *bodies[at + 1 :]],
    ):
        moved = [
            AuditRecord(seq=seq, body=body, seal=log[min(seq, 5) - 1].seal)
            for seq, body in enumerate(wrong, start=1)
        ]
        assert upload(world, all_of(moved)).up_to == at - 1
    assert {seq for seq, _ in alarms(world)} == {at}


def test_t30_a_record_that_comes_again_differently_is_a_fork(world: World) -> None:
    world.join("a")
    log = trail(3)
    upload(world, all_of(log))
    body = said(2, "agent:test:forged")
    # Even by who has the key of its epoch.
    key = audit_seal.first_key(SEED)
    forged = AuditRecord(seq=2, body=body, seal=key.seal(merkle.leaf_hash(body)))
    assert upload(world, AuditBatch(records=[forged])).up_to == 3
    assert alarms(world) == [(2, "it differs from the record that is kept")]
    assert kept(world)[1] == (2, log[1].body)


def resealed(key: SealKey, seq: int, body: bytes) -> AuditRecord:
    return AuditRecord(seq=seq, body=body, seal=key.seal(merkle.leaf_hash(body)))


def test_t33_who_has_the_present_key_cannot_seal_what_was_before(world: World) -> None:
    world.join("a")
    log = trail(EPOCH + 6)
    present = audit_seal.first_key(SEED).at(EPOCH + 1)
    forged = [*log]
    forged[39] = resealed(present, 40, said(40, "agent:test:forged"))
    assert upload(world, all_of(forged)).up_to == 39
    assert [seq for seq, _ in alarms(world)] == [40]


def test_t31_a_log_that_was_cut_off_and_goes_on_is_noticed(world: World) -> None:
    """Its end is cut off before it was sent; what comes instead has seals of a later key."""
    world.join("a")
    log = trail(EPOCH + 30)
    upload(world, all_of(log, 10))
    present = audit_seal.first_key(SEED).at(EPOCH + 30)
    cut = [*log[:20], *(resealed(present, seq, said(seq)) for seq in range(21, 40))]
    assert upload(world, all_of(cut)).up_to == 20
    assert [seq for seq, _ in alarms(world)] == [21]


def test_t31_a_log_that_was_cut_off_and_says_nothing_is_noticed(world: World) -> None:
    device = world.join("a")
    upload(world, all_of(trail(3)))
    world.wait(hours=2)
    device.heartbeat()
    assert alarms(world, Tag.DEVICE_AUDIT_SILENT) == []
    world.wait(hours=1)
    for _ in range(3):
        device.heartbeat()
    assert alarms(world, Tag.DEVICE_AUDIT_SILENT) == [(4, "no audit record came")]
    upload(world, all_of(trail(4)))
    device.heartbeat()
    assert len(alarms(world, Tag.DEVICE_AUDIT_SILENT)) == 1
    world.wait(hours=3)
    device.heartbeat()
    assert len(alarms(world, Tag.DEVICE_AUDIT_SILENT)) == 2


def test_t32_yesterdays_disk_is_noticed_at_its_first_word_and_at_its_first_record(
    world: World,
) -> None:
    device = world.join("a")
    log = trail(8)
    upload(world, all_of(log))
    device.hello(next_audit_seq=9, audit_size=8)
    assert alarms(world, Tag.DEVICE_AUDIT_REWOUND) == []
    for _ in range(2):
        device.hello(next_audit_seq=5, audit_size=5)
    assert alarms(world, Tag.DEVICE_AUDIT_REWOUND) == [
        (6, "the device has fewer records than it sent")
    ]
    other = sealed([*(one.body for one in log[:5]), said(6, "agent:test:again")])
    assert upload(world, all_of(other)).up_to == 8
    assert alarms(world) == [(6, "it differs from the record that is kept")]


def test_a_checkpoint_must_be_the_devices_and_of_this_log(world: World) -> None:
    world.join("a")
    log = trail(3)
    stranger = Ed25519PrivateKey.generate()
    wrong = [
        "",
        "not a note",
        batch_of(log, 1, 2, 3, device_id="a", key=stranger).checkpoint,
        batch_of(log, 1, 2, 3, device_id="b").checkpoint,
        batch_of(trail(4), 4, device_id="a").checkpoint,
        device_log.sign(KEY, "a", 3, bytes(32)),
    ]
    for checkpoint in wrong:
        batch = AuditBatch(records=log, checkpoint=checkpoint)
        assert upload(world, batch).up_to == 0
    assert {seq for seq, _ in alarms(world)} == {3}
    assert kept(world) == []
    assert upload(world, all_of(log)).up_to == 3


def test_a_device_that_told_no_seal_is_not_believed(world: World) -> None:
    world.join("a")
    with world.database.transaction() as session:
        device = session.get(Device, "a")
        assert device is not None
        device.audit_seed = None
    message = link_pb2.DeviceMessage(audit=all_of(trail(1)))
    assert world.conversation.receive("a", "grpc", message) == []
    assert kept(world) == []
    assert "enrol anew" in str(world.audited(Tag.DEVICE_MESSAGE_REFUSED))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[1]",
        b'{"seq": 2}',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"seq": 1, "x": "' + b"a" * (64 << 10) + b'"}',
    ],
)
def test_a_record_that_is_none_is_an_alarm(world: World, body: bytes) -> None:
    world.join("a")
    assert upload(world, all_of(sealed([body]))).up_to == 0
    assert len(alarms(world)) == 1
    assert kept(world) == []


def test_a_batch_beyond_its_limit_is_kept_as_far_as_it_goes(world: World) -> None:
    world.join("a")
    log = trail(1003)
    assert upload(world, all_of(log)).up_to == 1000
    assert upload(world, some(log, 1001, 1002, 1003)).up_to == 1003
    assert checked(world).ok


def test_t17_each_acknowledgement_is_signed_for_its_device(world: World) -> None:
    device = world.join("a")
    acks = [upload(world, all_of(trail(3)))]
    acks += [one.audit_ack for one in device.hello(next_audit_seq=2) if one.HasField("audit_ack")]
    assert [ack.up_to for ack in acks] == [3, 3]
    for ack in acks:
        acknowledgement.verify(ack, "a", PKI.root_pem, NOW)
        with pytest.raises(AckRefusedError, match="does not cover"):
            acknowledgement.verify(ack, "b", PKI.root_pem, NOW)


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        ("UPDATE device_audit_record SET body = X'7b7d' WHERE seq = 3", "record 3: its seal"),
        ("DELETE FROM device_audit_record WHERE seq = 3", "expected 5 records, found 2"),
        ("DELETE FROM device_audit_record WHERE seq > 3", "expected 5 records, found 3"),
        ("UPDATE device SET audit_frontier = X'', audit_seq = 0", "expected 0 records"),
        ("UPDATE device SET audit_checkpoint = 'x'", "the device's last checkpoint"),
    ],
)
def test_what_is_kept_of_a_devices_log_is_checked_by_its_seals(
    change: str, said_of_it: str
) -> None:
    world = World()
    world.join("a")
    upload(world, all_of(trail(5)))
    with world.database.transaction() as session:
        # Who can drop a trigger can change a record; its seal tells.
        for trigger in ("no_update", "no_delete"):
            session.connection().exec_driver_sql(
                f"DROP TRIGGER IF EXISTS device_audit_record_{trigger}"
            )
        session.connection().exec_driver_sql(change)
    report = checked(world)
    assert not report.ok
    assert said_of_it in report.message
    world.close()


def expired(world: World, folder: Path) -> int:
    """Have a policy of half a year, and half a year go by; return how many batches went."""
    folder.mkdir(exist_ok=True)
    desk = Desk(folder)
    checkpoints = Checkpoints(world.database, desk.core)
    by: Any = {"actor": "user:ann", "now": world.now}
    with world.database.transaction() as session:
        retention.set_policy(session, Policy("", 183), "", **by)
    world.now += timedelta(days=184)
    desk.now = world.now
    job, batches = Expiring(world.database, checkpoints), 0
    while job.step(world.now):
        batches += 1
    desk.core.close()
    return batches


def test_what_expired_of_a_devices_log_still_leads_to_its_root(
    world: World, tmp_path: Path
) -> None:
    world.join("a")
    log = trail(70)
    upload(world, all_of(log, 66))
    expired(world, tmp_path / "signer")
    assert [body for _, body in kept(world)] == [b""] * 66
    report = checked(world)
    assert (report.ok, report.records, report.expired) == (True, 66, 66)
    assert report.message == "66 records, unbroken, 66 expired"
    # What was acknowledged and comes again is still the same.
    ack = upload(world, all_of(log))
    assert (ack.up_to, ack.root) == (70, root_of(log))
    assert alarms(world) == []
    upload(world, some([changed(log[2], body=said(3, "agent:test:forged"))], 1))
    assert [position for position, _ in alarms(world)] == [3]
    assert checked(world).ok


def test_an_erased_record_of_a_device_that_did_not_expire_is_found(
    world: World, tmp_path: Path
) -> None:
    world.join("a")
    upload(world, all_of(trail(3)))
    expired(world, tmp_path / "signer")
    upload(world, all_of(trail(5)))
    with world.database.transaction() as session:
        session.add(AuditExpiry(device_id="a", first_seq=4, last_seq=4, seq=1))
        session.flush()
        session.connection().exec_driver_sql(
            "UPDATE device_audit_record SET body = '', tag = '' WHERE seq = 4"
        )
    report = checked(world)
    assert not report.ok
    assert report.message == (
        "record 4 was removed, no record of the controller says that it expired"
    )


def test_records_that_no_checkpoint_of_the_device_is_of_do_not_expire(
    world: World, tmp_path: Path
) -> None:
    world.join("a")
    log = trail(5)
    upload(world, all_of(log, 3))
    upload(world, AuditBatch(records=log[3:]))  # its checkpoint is missing
    with world.database.transaction() as session:
        session.get_one(Device, "a").audit_seq = 5
        rows = [
            DeviceAuditRecord(
                device_id="a", seq=one.seq, body=one.body, hash="0", received_at=world.now
            )
            for one in log[3:]
            if session.get(DeviceAuditRecord, ("a", one.seq)) is None
        ]
        session.add_all(rows)
    expired(world, tmp_path / "signer")
    assert [seq for seq, body in kept(world) if not body] == [1, 2, 3]


@pytest.mark.parametrize(
    ("held", "gone"),
    [(Held(device_id="a"), []), (Held(device_id="b"), [1, 2]), (Held(rollout_id="r"), [1, 2])],
)
def test_a_hold_keeps_a_devices_own_log(
    world: World, tmp_path: Path, held: Held, gone: list[int]
) -> None:
    world.join("a")
    upload(world, all_of(trail(2)))
    with world.database.transaction() as session:
        retention.add_hold(session, "h", held, "case", actor="user:ann", now=world.now)
    expired(world, tmp_path / "signer")
    assert [seq for seq, body in kept(world) if not body] == gone


def test_a_tag_of_devices_has_a_policy_of_its_own(world: World, tmp_path: Path) -> None:
    world.join("a")
    bodies = [said(1), said(2, Tag.INFERENCE_ANSWERED.value), said(3, "NO TAG\x00")]
    upload(world, all_of(sealed(bodies)))
    by: Any = {"actor": "user:ann", "now": world.now}
    with world.database.transaction() as session:
        retention.set_policy(session, Policy(Tag.INFERENCE_ANSWERED.value, None), "", **by)
    expired(world, tmp_path / "signer")
    assert [seq for seq, body in kept(world) if not body] == [1, 3]
    assert checked(world).ok
