"""A device's audit log as it arrives: appended in order, its seals followed, nothing replaced.

A record that was kept and comes again must be the same one. Whatever breaks this is evidence: it is
written into the controller's own log, once, and nothing beyond it is acknowledged.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final

import msgspec
import sqlalchemy
from sprat_proto import device_log, merkle
from sprat_proto.audit_events import Tag
from sprat_proto.audit_seal import SealKey
from sprat_proto.notes import NoteError
from sprat_proto.v1 import link_pb2
from sqlmodel import col, insert

from sprat_controller.audit import device_logs, log
from sprat_controller.audit.device_logs import Broken, Head, Sealed
from sprat_controller.link import copies, known
from sprat_controller.link.known import Hearing, Known, Reply
from sprat_controller.store.tables import AuditRecord, DeviceAuditRecord

MAX_RECORDS: Final = 1000  # of one batch; what is beyond it is not acknowledged, and comes again
# A device writes a record at least hourly: one that says other things and none of these hides some.
SILENT_AFTER: Final = timedelta(hours=2, minutes=30)
_log = logging.getLogger(__name__)


def take_in(hearing: Hearing, batch: link_pb2.AuditBatch) -> Reply:
    """Keep what follows what is kept, and acknowledge up to there."""
    device = hearing.device
    start = head_of(device)
    if start is None:
        return Reply(refused=["audit of a device that told no seal when it enrolled: enrol anew"])
    records = [Sealed(one.seq, one.body, one.seal) for one in batch.records[:MAX_RECORDS]]
    followed = device_logs.follow(start, records)
    changed = _changed(hearing, records)
    broken = changed or followed.broken
    checkpoint = ""
    # The checkpoint is of the whole batch.
    if broken is None and batch.records and followed.head.size == batch.records[-1].seq:
        broken = _misstated(device, followed.head, batch.checkpoint)
        checkpoint = batch.checkpoint
    head = followed.head if broken is None or followed.broken is broken else start
    fresh = followed.fresh if head is followed.head else []
    _keep(hearing, fresh)
    values: dict[str, Any] = {
        "audit_seq": head.size,
        "audit_frontier": head.frontier,
        "audit_epoch": head.key.epoch,
        "audit_epoch_key": head.key.key,
    }
    if fresh:
        values["audit_at"] = hearing.now
    if checkpoint and broken is None:
        values["audit_checkpoint"] = checkpoint
    differs_at = changed.seq if changed else None
    goes_on = bool(fresh) and broken is None
    values |= copies.look_at_fork(hearing, differs_at=differs_at, goes_on=goes_on)
    known.save(hearing.session, device.id, hearing.now, values)
    if broken is not None:
        _raise_alarm(hearing, broken)
    return Reply([hearing.acknowledger.audit_ack(device.id, head.size, head.root)])


def head_of(device: Known) -> Head | None:
    """Return where the device's log ends here; None if it never told how it seals."""
    if device.audit_seed is None:
        return None
    if device.audit_epoch_key is None:
        return device_logs.beginning(device.audit_seed)
    key = SealKey(device.audit_epoch, device.audit_epoch_key)
    return Head(device.audit_seq, device.audit_frontier or b"", key)


def look_at_size(hearing: Hearing, size: int) -> None:
    """Raise the alarm if a device has fewer records than it once sent: it was set back."""
    kept = hearing.device.audit_seq
    if size < kept:
        _raise_alarm(
            hearing,
            Broken(size + 1, "the device has fewer records than it sent", str(kept), str(size)),
            Tag.DEVICE_AUDIT_REWOUND,
        )


def look_at_silence(hearing: Hearing) -> None:
    """Raise the alarm, once, if a device speaks and no audit of it has come for too long."""
    device = hearing.device
    last = device.audit_at
    if device.audit_seed is None or last is None or hearing.now - last < SILENT_AFTER:
        return
    since = last.isoformat(timespec="seconds")
    _raise_alarm(
        hearing,
        Broken(device.audit_seq + 1, "no audit record came", "one an hour", f"none since {since}"),
        Tag.DEVICE_AUDIT_SILENT,
    )


def _misstated(device: Known, head: Head, note: str) -> Broken | None:
    """Return what is wrong with the device's own checkpoint at the head."""
    try:
        key = device_log.verifier(device.id, device.audit_key)
        checkpoint = device_log.verify(note, device.id, key)
    except NoteError as error:
        return Broken(head.size, "its checkpoint is not the device's", "its signature", str(error))
    if (checkpoint.size, checkpoint.root) != (head.size, head.root):
        expected, found = head.root.hex(), checkpoint.root.hex()
        return Broken(head.size, "the device's checkpoint is of another log", expected, found)
    return None


def _changed(hearing: Hearing, records: list[Sealed]) -> Broken | None:
    """Compare what comes again with what is kept."""
    again = {one.seq: one for one in records if 0 < one.seq <= hearing.device.audit_seq}
    if not again:
        return None
    kept = hearing.session.connection().execute(
        sqlalchemy.select(
            col(DeviceAuditRecord.seq), col(DeviceAuditRecord.hash), col(DeviceAuditRecord.seal)
        )
        .where(
            col(DeviceAuditRecord.device_id) == hearing.device.id,
            col(DeviceAuditRecord.seq).in_(again),
        )
        .order_by(col(DeviceAuditRecord.seq))
    )
    for seq, expected, seal in kept:
        record = again[seq]
        # By its hash: the body may have expired here.
        found = merkle.leaf_hash(record.body).hex()
        if (found, record.seal) != (expected, seal):
            return Broken(seq, "it differs from the record that is kept", expected, found)
    return None


def _keep(hearing: Hearing, fresh: list[Sealed]) -> None:
    if not fresh:
        return
    rows = [
        {
            "device_id": hearing.device.id,
            "seq": record.seq,
            "body": record.body,
            "hash": merkle.leaf_hash(record.body).hex(),
            "seal": record.seal,
            "tag": device_logs.tag_of(record.body),
            "received_at": hearing.now,
        }
        for record in fresh
    ]
    hearing.session.connection().execute(insert(DeviceAuditRecord), rows)


def _raise_alarm(hearing: Hearing, broken: Broken, tag: Tag = Tag.DEVICE_AUDIT_BROKEN) -> None:
    """Write it down and log it, unless it is what was last written down of this device."""
    subject = f"device/{hearing.device.id}"
    detail: dict[str, object] = {
        "position": broken.seq,
        "message": broken.message,
        "expected": broken.expected,
        "found": broken.found,
    }
    if _last_alarm(hearing, subject, tag) == detail:
        return
    _log.error("the audit log of %s is broken at record %d: %s", subject, *_said(broken))
    log.append(
        hearing.session,
        tag,
        at=hearing.now,
        actor=hearing.by_device,
        subject=subject,
        outcome="failure",
        reason=tag.action,
        detail=detail,
    )


def _said(broken: Broken) -> tuple[int, str]:
    return broken.seq, broken.message


def _last_alarm(hearing: Hearing, subject: str, tag: Tag) -> object:
    last = (
        hearing.session.connection()
        .execute(
            sqlalchemy.select(col(AuditRecord.body))
            .where(
                col(AuditRecord.tag) == tag.value,
                col(AuditRecord.subject) == subject,
            )
            .order_by(col(AuditRecord.seq).desc())
            .limit(1)
        )
        .scalar()
    )
    return msgspec.json.decode(last)["detail"] if last is not None else None
