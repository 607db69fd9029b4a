"""Checking audit logs where they are kept: the controller's own, a device's as it arrived.

Who holds the database could have made both anew as a whole: what stands against that are the
checkpoints that others keep (`sprat audit witness`, `sprat audit verify EXPORT`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec
import sqlalchemy as sql
from sprat_proto import audit_events, device_log, notes
from sprat_proto.merkle import Frontier, leaf_hash
from sprat_proto.notes import NoteError
from sqlmodel import Session, col, select

from sprat_controller.audit import device_logs, expiring, log
from sprat_controller.audit import expiries as expiries_
from sprat_controller.audit.expiries import Expiries
from sprat_controller.audit.export import UNREADABLE
from sprat_controller.store.tables import (
    AuditCheckpoint,
    AuditHead,
    AuditRecord,
    AuditSubtree,
    Device,
    DeviceAuditRecord,
)

_BATCH: Final = 1000
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_TAKEN_AT: Final = "ts"


@dataclass(frozen=True)
class Link:
    """One record of a log as it is kept; `copies` must equal the same fields of the body.

    The body of one that expired is empty, and so are its copies.
    """

    seq: int
    body: bytes
    hash: str
    copies: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Kept:
    """What else is kept of a Merkle log: what its records must lead to.

    Attributes:
        size: How many records it has.
        frontier: `merkle.Frontier` of them, as bytes.
        roots: By size, what was signed.
        subtrees: By level (of `log.TILE_LEVELS` each) and index, what proofs are made of; None:
            none are kept.
    """

    size: int
    frontier: bytes
    roots: Mapping[int, bytes] = field(default_factory=dict[int, bytes])
    subtrees: Mapping[tuple[int, int], bytes] | None = None


@dataclass(frozen=True)
class ChainReport:
    """What a check of a log found.

    Attributes:
        ok: Every record is the one that was written there.
        records: How many were found whole, from the first on.
        head: The root of the log, or hash of the last of these; None if there is none.
        message: One sentence for people.
        expired: How many of them were erased as a policy says.
    """

    ok: bool
    records: int
    head: str | None
    message: str
    expired: int = 0


def verify_tree(links: Iterable[Link], kept: Kept) -> ChainReport:
    """Check that records are numbered from 1, and lead to what is kept of the log. Pure."""
    frontier, expiries = Frontier(), Expiries()
    for link in links:
        fault = _fault_of_leaf(link, frontier.size + 1)
        if fault:
            return _broken(frontier, fault)
        completed = frontier.append(bytes.fromhex(link.hash))
        fault = _fault_of_subtrees(frontier.size, completed, kept) or _fault_of_root(frontier, kept)
        if fault:
            return _broken(frontier, fault)
        if link.body:
            expiries.take(link.seq, link.body)
        else:
            expiries.gone(link.seq)
    size = frontier.size
    if max(kept.roots, default=0) > size:
        found = f"expected at least {max(kept.roots)} records, as was signed, found {size}"
        return _broken(frontier, f"{found}: the last are missing")
    if (size, bytes(frontier)) != (kept.size, kept.frontier):
        found = f"expected {kept.size} records that lead to what is kept of them, found {size}"
        return _broken(frontier, f"{found}: records are missing, or were added")
    fault = expiries.fault()
    if fault is not None:
        return ChainReport(ok=False, records=fault[0] - 1, head=_root(frontier), message=fault[1])
    message = _unbroken(size, expiries.count)
    head = _root(frontier)
    return ChainReport(ok=True, records=size, head=head, message=message, expired=expiries.count)


def verify_controller(session: Session) -> ChainReport:
    """Check the controller's own log."""
    run = session.connection().execute
    head = run(sql.select(col(AuditHead.size), col(AuditHead.frontier))).first()
    signed = run(sql.select(col(AuditCheckpoint.size), col(AuditCheckpoint.note)))
    roots = {size: _signed_root(note) for size, note in signed}
    columns = sql.select(
        col(AuditRecord.seq),
        col(AuditRecord.body),
        col(AuditRecord.hash),
        col(AuditRecord.actor),
        col(AuditRecord.tag),
        col(AuditRecord.subject),
        col(AuditRecord.device_id),
        col(AuditRecord.rollout_id),
        col(AuditRecord.at),
    ).order_by(col(AuditRecord.seq))
    rows = run(columns.execution_options(yield_per=_BATCH))
    links = (_link(*row) for row in rows)
    size, frontier = (head.size, bytes(head.frontier)) if head else (0, b"")
    found = run(
        sql.select(col(AuditSubtree.level), col(AuditSubtree.index), col(AuditSubtree.hash))
    )
    subtrees = {(level, index): bytes(root) for level, index, root in found}
    return verify_tree(links, Kept(size, frontier, roots, subtrees))


def _link(  # noqa: PLR0917 - a row's columns
    seq: int,
    body: bytes,
    digest: str,
    actor: str,
    tag: str,
    subject: str,
    device_id: str | None,
    rollout_id: str | None,
    at: datetime,
) -> Link:
    copies = (("actor", actor), ("tag", tag), ("subject", subject))
    about = (("device", device_id), ("rollout", rollout_id))
    # The one that stays of a record that expired.
    when = ((_TAKEN_AT, _milliseconds(at)),) if body else ()
    return Link(seq, body, digest, (*copies, *about, *when))


def verify_device(session: Session, device_id: str) -> ChainReport:
    """Check the log of a device, as far as it has arrived: seals, tree and its own checkpoint."""
    device = session.get(Device, device_id)
    if device is None or device.audit_seed is None:
        message = "no records yet" if device is None else "it told no seal when it was enrolled"
        return ChainReport(ok=device is None, records=0, head=None, message=message)
    columns = (
        select(
            DeviceAuditRecord.seq,
            DeviceAuditRecord.body,
            DeviceAuditRecord.seal,
            DeviceAuditRecord.hash,
        )
        .where(DeviceAuditRecord.device_id == device_id)
        .order_by(col(DeviceAuditRecord.seq))
        .execution_options(yield_per=_BATCH)
    )
    rows = session.exec(columns)
    gone: list[int] = []
    records = (_sealed(seq, body, seal, digest, gone) for seq, body, seal, digest in rows)
    followed = device_logs.follow(device_logs.beginning(device.audit_seed), records)
    found = followed.head
    fault = _fault_of_device(device, followed) or _fault_of_expired(session, device_id, gone)
    message = fault or _unbroken(found.size, len(gone))
    head = found.root.hex() if found.size else None
    return ChainReport(
        ok=fault is None, records=found.size, head=head, message=message, expired=len(gone)
    )


def _sealed(
    seq: int, body: bytes, seal: bytes | None, digest: str, gone: list[int]
) -> device_logs.Sealed:
    """Return a record as it is kept, and put down the position of one that expired."""
    if body:
        return device_logs.Sealed(seq, body, seal or b"")
    gone.append(seq)
    return device_logs.Sealed(seq, b"", seal or b"", bytes.fromhex(digest))


def _fault_of_expired(session: Session, device_id: str, gone: list[int]) -> str | None:
    """Return which record of a device is gone without the controller's log saying so."""
    covered: list[expiries_.Range] = []
    for first, last, seq in expiring.ranges_of_device(session, device_id):
        record = session.get(AuditRecord, seq)
        said = expiries_.of_device(record.body, device_id) if record else []
        if (first, last) in said:
            covered.append((first, last))
    first = expiries_.first_outside(expiries_.ranges_of(gone), covered)
    if first is None:
        return None
    return f"record {first} was removed, no record of the controller says that it expired"


def _unbroken(size: int, expired: int) -> str:
    if size == 0:
        return "no records yet"
    return f"{size} records, unbroken" + (f", {expired} expired" if expired else "")


def _fault_of_device(device: Device, followed: device_logs.Followed) -> str | None:
    head, broken = followed.head, followed.broken
    if broken is not None:
        return f"record {broken.seq}: {broken.message}"
    if head.size < device.audit_seq:
        return f"expected {device.audit_seq} records, found {head.size}: the next is missing"
    if head.size > device.audit_seq or head.frontier != (device.audit_frontier or b""):
        return f"expected {device.audit_seq} records as acknowledged, found another log"
    return _fault_of_checkpoint(device, head) if device.audit_checkpoint else None


def _fault_of_checkpoint(device: Device, head: device_logs.Head) -> str | None:
    try:
        key = device_log.verifier(device.id, device.audit_key)
        checkpoint = device_log.verify(device.audit_checkpoint or "", device.id, key)
    except NoteError as error:
        return f"the device's last checkpoint: {error}"
    if checkpoint.size == head.size and checkpoint.root != head.root:
        return "the device's last checkpoint is of another log"
    return None


def _fault_of_leaf(link: Link, expected_seq: int) -> str | None:
    if link.seq != expected_seq:
        return f"expected record {expected_seq}, found {link.seq}: a record is missing"
    if not link.body:
        said = [name for name, copy in link.copies if copy]
        if not said and not _HASH.fullmatch(link.hash):
            return f"record {link.seq}: its body is gone, and its hash is none"
        return f"record {link.seq}: its body is gone, and its {said[0]} is not" if said else None
    expected = leaf_hash(link.body).hex()
    if link.hash != expected:
        return (
            f"record {link.seq}: expected the hash {expected[:16]}, found {link.hash[:16]}:"
            " this record was changed"
        )
    return _fault_of_body(link)


def _fault_of_body(link: Link) -> str | None:
    try:
        decoded: Any = msgspec.json.decode(link.body)
    except UNREADABLE as error:
        return f"record {link.seq}: expected JSON: {error}"
    said = _copied(cast("dict[str, Any]", decoded) if isinstance(decoded, dict) else {})
    for name, copy in (("seq", link.seq), *link.copies):
        if said.get(name) != copy:
            return (
                f"record {link.seq}: expected {name} {said.get(name)!r} as signed, found {copy!r}"
            )
    return None


def _copied(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what columns should hold of a record."""
    detail = body.get("detail")
    device, rollout = log.about(
        str(body.get("subject", "")),
        cast("dict[str, object]", detail) if isinstance(detail, dict) else {},
    )
    try:
        at = _milliseconds(datetime.fromisoformat(str(body.get(_TAKEN_AT))))
    except ValueError:
        at = None
    actor = audit_events.actor_name(body.get("actor"))
    return {**body, "actor": actor, "device": device, "rollout": rollout, _TAKEN_AT: at}


def _milliseconds(at: datetime) -> str:
    """Return a moment as a record says it: a column has microseconds, too."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _fault_of_root(frontier: Frontier, kept: Kept) -> str | None:
    signed = kept.roots.get(frontier.size)
    if signed is None or signed == frontier.root():
        return None
    return (
        f"the checkpoint of {frontier.size} was signed with the root {signed.hex()[:16]}, found"
        f" {frontier.root().hex()[:16]}: records were changed"
    )


def _fault_of_subtrees(size: int, completed: Sequence[bytes], kept: Kept) -> str | None:
    """Return which of the complete subtrees that end here is not as it is kept."""
    if kept.subtrees is None:
        return None
    for level in range(log.TILE_LEVELS, len(completed), log.TILE_LEVELS):
        found = kept.subtrees.get((level // log.TILE_LEVELS, (size >> level) - 1))
        if found != completed[level]:
            return (
                f"the records {size - (1 << level) + 1} to {size} do not lead to the root that is"
                f" kept of them: expected {completed[level].hex()[:16]}, found"
                f" {found.hex()[:16] if found else 'none'}"
            )
    return None


def _signed_root(note: str) -> bytes:
    try:
        return notes.read_checkpoint(notes.read_note(note).text).root
    except notes.NoteError:
        return b""  # no root is like it: the records are not what was signed


def _broken(frontier: Frontier, message: str) -> ChainReport:
    return ChainReport(ok=False, records=frontier.size, head=_root(frontier), message=message)


def _root(frontier: Frontier) -> str | None:
    return frontier.root().hex() if frontier.size else None
