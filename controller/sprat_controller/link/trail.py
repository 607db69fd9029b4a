"""A device's audit log as it arrives: appended in order, its chain followed, nothing replaced.

Record n is kept only after n - 1, and only if its hash is SHA-256(hash of n - 1 || body). A record
that was kept and comes again must be the same one. Whatever breaks this is evidence: it is written
into the controller's own log, once, and nothing beyond it is acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.v1 import link_pb2
from sqlmodel import col, insert

from sprat_controller.audit import log
from sprat_controller.audit.chain import GENESIS, chain
from sprat_controller.link import known
from sprat_controller.link.known import Hearing, Reply
from sprat_controller.store.tables import AuditRecord, DeviceAuditRecord

MAX_RECORDS: Final = 1000  # of one batch; what is beyond it is not acknowledged, and comes again
MAX_BODY_BYTES: Final = 64 << 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Head:
    """The last record that is kept, and those to keep after it."""

    seq: int
    hash: str
    fresh: tuple[link_pb2.AuditRecord, ...] = ()


@dataclass(frozen=True)
class Broken:
    """Why the log cannot be followed further."""

    seq: int
    message: str
    expected: str
    found: str


def take_in(hearing: Hearing, batch: link_pb2.AuditBatch) -> Reply:
    """Keep what follows what is kept, and acknowledge up to there."""
    device = hearing.device
    start = Head(device.audit_seq, device.audit_hash or GENESIS)
    records = batch.records[:MAX_RECORDS]
    head, broken = follow(start, records)
    broken = _changed(hearing, records) or broken
    _keep(hearing, head)
    known.save(
        hearing.session,
        device.id,
        hearing.now,
        {"audit_seq": head.seq, "audit_hash": head.hash},
    )
    if broken is not None:
        _raise_alarm(hearing, broken)
    return Reply([hearing.acknowledger.audit_ack(device.id, head.seq, head.hash)])


def follow(head: Head, records: Sequence[link_pb2.AuditRecord]) -> tuple[Head, Broken | None]:
    """Return how far the records follow the head, and what broke the chain, if anything. Pure.

    Records at or before the head, and those after a gap, are passed over.
    """
    for record in records:
        if record.seq <= head.seq:
            continue
        if record.seq > head.seq + 1:
            break
        broken = _fault(head, record)
        if broken is not None:
            return head, broken
        head = Head(record.seq, record.hash.hex(), (*head.fresh, record))
    return head, None


def _fault(head: Head, record: link_pb2.AuditRecord) -> Broken | None:
    expected, found = chain(head.hash, record.body), record.hash.hex()[:64]
    if record.hash.hex() != expected:
        return Broken(record.seq, "its hash does not follow the one before it", expected, found)
    if len(record.body) > MAX_BODY_BYTES:
        size = str(len(record.body))
        return Broken(record.seq, "its body is too large", f"{MAX_BODY_BYTES} bytes", size)
    if _seq_of(record.body) != record.seq:
        return Broken(
            record.seq, "its body is not a JSON object with its position", str(record.seq), found
        )
    return None


def _seq_of(body: bytes) -> object:
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return cast("dict[str, object]", decoded).get("seq") if isinstance(decoded, dict) else None


def _changed(hearing: Hearing, records: Sequence[link_pb2.AuditRecord]) -> Broken | None:
    """Compare what comes again with what is kept."""
    again = {one.seq: one for one in records if 0 < one.seq <= hearing.device.audit_seq}
    if not again:
        return None
    kept = hearing.session.connection().execute(
        sqlalchemy.select(
            col(DeviceAuditRecord.seq), col(DeviceAuditRecord.body), col(DeviceAuditRecord.hash)
        )
        .where(
            col(DeviceAuditRecord.device_id) == hearing.device.id,
            col(DeviceAuditRecord.seq).in_(again),
        )
        .order_by(col(DeviceAuditRecord.seq))
    )
    for seq, body, digest in kept:
        record = again[seq]
        if (record.body, record.hash.hex()) != (body, digest):
            found = record.hash.hex()[:64]
            return Broken(seq, "it differs from the record that is kept", digest, found)
    return None


def _keep(hearing: Hearing, head: Head) -> None:
    if not head.fresh:
        return
    rows = [
        {
            "device_id": hearing.device.id,
            "seq": record.seq,
            "body": record.body,
            "hash": record.hash.hex(),
            "received_at": hearing.now,
        }
        for record in head.fresh
    ]
    hearing.session.connection().execute(insert(DeviceAuditRecord), rows)


def _raise_alarm(hearing: Hearing, broken: Broken) -> None:
    """Write it down and log it, unless it is what was last written down of this device."""
    subject = f"device/{hearing.device.id}"
    detail: dict[str, object] = {
        "position": broken.seq,
        "message": broken.message,
        "expected": broken.expected,
        "found": broken.found,
    }
    if _last_alarm(hearing, subject) == detail:
        return
    _log.error("the audit log of %s is broken at record %d: %s", subject, *_said(broken))
    log.append(
        hearing.session,
        Tag.DEVICE_AUDIT_BROKEN,
        at=hearing.now,
        actor=hearing.by_device,
        subject=subject,
        outcome="failure",
        detail=detail,
    )


def _said(broken: Broken) -> tuple[int, str]:
    return broken.seq, broken.message


def _last_alarm(hearing: Hearing, subject: str) -> object:
    last = (
        hearing.session.connection()
        .execute(
            sqlalchemy.select(col(AuditRecord.body))
            .where(
                col(AuditRecord.tag) == Tag.DEVICE_AUDIT_BROKEN.value,
                col(AuditRecord.subject) == subject,
            )
            .order_by(col(AuditRecord.seq).desc())
            .limit(1)
        )
        .scalar()
    )
    return msgspec.json.decode(last)["detail"] if last is not None else None
