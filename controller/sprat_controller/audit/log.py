"""Appending to the controller's audit log, inside the transaction that makes the change.

The log is a Merkle tree (`sprat_proto.merkle`) over the records' canonical JSON: record `seq` is
leaf `seq - 1`. What is needed to append, the head, is one row that moves in the same transaction as
the records; beside it the roots of complete subtrees of 256, 65,536, … records are kept, so that
proofs are made of few rows (`tree`). Triggers refuse UPDATE and DELETE of records and subtrees in
the first place; who gets around them is found out by the checkpoints (`checkpoints`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sprat_proto import audit_events
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import Frontier, leaf_hash
from sqlalchemy import event, insert, select, update
from sqlalchemy.orm import Session as OrmSession
from sqlmodel import Session, col

from sprat_controller.audit import asking, watch
from sprat_controller.store.tables import AuditHead, AuditRecord, AuditSubtree

NAME: Final = "controller"  # as records say whose log they are of
# Each kept level is this many of the binary tree's: C2SP tiles are as wide.
TILE_LEVELS: Final = 8

# Core statements, made once: through the ORM this append was half the cost of an assignment.
_HEAD = select(col(AuditHead.size), col(AuditHead.frontier)).with_for_update()
_INSERT = insert(AuditRecord)
_MOVE = update(AuditHead)
_BEGIN = insert(AuditHead).values(id=1)
_INSERT_SUBTREES = insert(AuditSubtree)
# Of a record that had expired when it was put back: an export says nothing of it.
_UNKNOWN_TIME: Final = datetime.fromtimestamp(0, UTC)
_HEAD_KEY: Final = "sprat_audit_head"


class _Head:
    """The head in the course of a transaction: read once, written once."""

    def __init__(self, kept: Frontier | None) -> None:
        self.is_kept = kept is not None  # else there is no row yet
        self.frontier = kept or Frontier()
        self.subtrees: list[dict[str, object]] = []

    def append(self, leaf: bytes) -> None:
        """Take in the hash of the next record."""
        completed = self.frontier.append(leaf)
        for level in range(TILE_LEVELS, len(completed), TILE_LEVELS):
            self.subtrees.append(
                {
                    "level": level // TILE_LEVELS,
                    "index": (self.frontier.size >> level) - 1,
                    "hash": completed[level],
                }
            )


def append(
    session: Session,
    tag: Tag,
    *,
    at: datetime,
    actor: str,
    subject: str,
    outcome: str = "success",
    detail: Mapping[str, object] | None = None,
    reason: str | None = None,
    before: str | None = None,
    after: str | None = None,
    scope: str | None = None,
) -> int:
    """Add one record and return its position; it is kept exactly if the transaction is.

    Args:
        session: An open `Database.transaction()`.
        tag: What happened.
        at: When.
        actor: Who: `user:<name>`, `device:<id>`, `schedule`, `planner`, `controller`.
        subject: To which thing, for example `device/gw-1` or `rollout/<id>`.
        outcome: success, failure or denied.
        detail: Integers, strings, booleans and lists or mappings of them; see `about`.
        reason: Why, in a word that programs read, such as a refusal's code.
        before: State or digest of what was changed, before it.
        after: The same, after it.
        scope: The target filter within which the actor may do it; None: as the request says.
    """
    said = detail or {}
    head = _head(session)
    seq = head.frontier.size + 1
    request = asking.current()
    body = audit_events.encode(
        log=NAME,
        seq=seq,
        at=at,
        actor=audit_events.actor_of(actor) | request.identity_of(actor),
        tag=tag.value,
        subject=subject,
        outcome=outcome,
        detail=said,
        more={
            "reason": reason,
            "before": before,
            "after": after,
            "scope": request.scope_of(actor) if scope is None else scope,
            "request": request.id,
            **watch.fields_in(session),
        },
    )
    leaf = leaf_hash(body)
    device_id, rollout_id = about(subject, said)
    session.connection().execute(
        _INSERT,
        {
            "seq": seq,
            "body": body,
            "hash": leaf.hex(),
            "at": at,
            "actor": actor,
            "tag": tag.value,
            "subject": subject,
            "device_id": device_id,
            "rollout_id": rollout_id,
        },
    )
    head.append(leaf)
    return seq


def refill(session: Session, seq: int, body: bytes, leaf: bytes) -> None:
    """Add a record that the log once had, byte for byte; an empty body has expired.

    Raises:
        ValueError: It is not the next one.
    """
    head = _head(session)
    if seq != head.frontier.size + 1:
        raise ValueError(f"expected record {head.frontier.size + 1}, found {seq}")
    said: dict[str, Any] = msgspec.json.decode(body) if body else {}
    subject = str(said.get("subject", ""))
    device_id, rollout_id = about(subject, said.get("detail") or {})
    session.connection().execute(
        _INSERT,
        {
            "seq": seq,
            "body": body,
            "hash": leaf.hex(),
            "at": datetime.fromisoformat(str(said["ts"])) if said else _UNKNOWN_TIME,
            "actor": audit_events.actor_name(said.get("actor")) or "",
            "tag": str(said.get("tag", "")),
            "subject": subject,
            "device_id": device_id,
            "rollout_id": rollout_id,
        },
    )
    head.append(leaf)


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


def _head(session: Session) -> _Head:
    """Return the head of the log; it is written back when the transaction is about to be kept.

    A transaction that assigns models to 10,000 devices appends as often: one row read and written
    for each of them would be a third of the append.
    """
    head = session.info.get(_HEAD_KEY)
    if not isinstance(head, _Head):
        row = session.connection().execute(_HEAD).first()
        head = _Head(Frontier.from_bytes(row.size, bytes(row.frontier)) if row else None)
        session.info[_HEAD_KEY] = head
        event.listen(session, "before_commit", _write_back, once=True)
    return head


def _write_back(session: OrmSession) -> None:
    head: _Head = session.info.pop(_HEAD_KEY)
    connection: Any = session.connection()
    if head.subtrees:
        connection.execute(_INSERT_SUBTREES, head.subtrees)
    moved: dict[str, object] = {"size": head.frontier.size, "frontier": bytes(head.frontier)}
    connection.execute(_MOVE if head.is_kept else _BEGIN, moved)
