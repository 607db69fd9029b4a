"""Appending to the controller's audit log, inside the transaction that makes the change.

Each record is canonical JSON and carries SHA-256(previous hash || body), so a changed or removed
record breaks the chain; triggers in the database refuse UPDATE and DELETE in the first place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from sprat_proto import canonical
from sprat_proto.audit_events import Tag
from sqlalchemy import insert, select
from sqlmodel import Session, col

from sprat_controller.store.tables import AuditRecord

GENESIS = "0" * 64

# Core statements, made once: through the ORM this append was half the cost of an assignment.
_LAST = (
    select(col(AuditRecord.seq), col(AuditRecord.hash))
    .order_by(col(AuditRecord.seq).desc())
    .limit(1)
)
_INSERT = insert(AuditRecord)


def append(
    session: Session,
    tag: Tag,
    *,
    at: datetime,
    actor: str,
    subject: str,
    outcome: str = "success",
    detail: Mapping[str, object] | None = None,
) -> int:
    """Add one record and return its position; it is kept exactly if the transaction is.

    Args:
        session: An open `Database.transaction()`.
        tag: What happened.
        at: When.
        actor: Who: `token:<name>`, `device:<id>`, `schedule`, `planner`, `controller`.
        subject: To which thing, for example `device/gw-1` or `rollout/<id>`.
        outcome: success, failure or denied.
        detail: Integers, strings, booleans and lists or mappings of them; see `about`.
    """
    connection = session.connection()
    device_id, rollout_id = about(subject, detail or {})
    previous = connection.execute(_LAST).first()
    seq = previous.seq + 1 if previous else 1
    body = canonical.encode(
        {
            "v": 1,
            "seq": seq,
            "ts": at.isoformat(timespec="milliseconds"),
            "actor": actor,
            "tag": tag.value,
            "subject": subject,
            "outcome": outcome,
            "detail": dict(detail or {}),
        }
    )
    connection.execute(
        _INSERT,
        {
            "seq": seq,
            "body": body,
            "hash": chain(previous.hash if previous else GENESIS, body),
            "at": at,
            "actor": actor,
            "tag": tag.value,
            "subject": subject,
            "device_id": device_id,
            "rollout_id": rollout_id,
        },
    )
    return seq


def about(subject: str, detail: Mapping[str, object]) -> tuple[str | None, str | None]:
    """Return the device and the rollout that a record is about. Pure.

    They are the subject (`device/<id>`, `rollout/<id>`), or else stand in the detail under
    `device` and `rollout`.
    """
    return _named("device", subject, detail), _named("rollout", subject, detail)


def _named(kind: str, subject: str, detail: Mapping[str, object]) -> str | None:
    name = subject.removeprefix(f"{kind}/")
    if name != subject:
        return name
    said = detail.get(kind)
    return said if isinstance(said, str) and said else None


def chain(previous: str, body: bytes) -> str:
    """Return the hex hash of the record `body` that follows the record with hash `previous`."""
    return hashlib.sha256(bytes.fromhex(previous) + body).hexdigest()
