"""Checking audit logs where they are kept: the controller's own, a device's as it arrived.

Who holds the database could have made both anew as a whole: what stands against that are the
checkpoints that others keep (`sprat audit witness`, `sprat audit verify EXPORT`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec
import sqlalchemy as sql
from sprat_proto import audit_events, notes
from sprat_proto.merkle import Frontier, leaf_hash
from sqlmodel import Session, col, select

from sprat_controller.audit.chain import GENESIS, chain
from sprat_controller.store.tables import (
    AuditCheckpoint,
    AuditHead,
    AuditRecord,
    DeviceAuditRecord,
)

_BATCH: Final = 1000


@dataclass(frozen=True)
class Link:
    """One record of a log as it is kept; `copies` must equal the same fields of the body."""

    seq: int
    body: bytes
    hash: str
    copies: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Kept:
    """What else is kept of a Merkle log: what its records must lead to.

    Attributes:
        size: How many records it has.
        frontier: `merkle.Frontier` of them, as bytes.
        roots: By size, what was signed.
    """

    size: int
    frontier: bytes
    roots: dict[int, bytes] = field(default_factory=dict[int, bytes])


@dataclass(frozen=True)
class ChainReport:
    """What a check of a log found.

    Attributes:
        ok: Every record is the one that was written there.
        records: How many were found whole, from the first on.
        head: The root of the log, or hash of the last of these; None if there is none.
        message: One sentence for people.
    """

    ok: bool
    records: int
    head: str | None
    message: str


def verify_tree(links: Iterable[Link], kept: Kept) -> ChainReport:
    """Check that records are numbered from 1, and lead to what is kept of the log. Pure."""
    frontier = Frontier()
    for link in links:
        fault = _fault_of_leaf(link, frontier.size + 1)
        if fault:
            return _broken(frontier, fault)
        frontier.append(bytes.fromhex(link.hash))
        signed = kept.roots.get(frontier.size)
        if signed is not None and signed != frontier.root():
            return _broken(
                frontier,
                f"the checkpoint of {frontier.size} was signed with the root"
                f" {signed.hex()[:16]}, found {frontier.root().hex()[:16]}: records were changed",
            )
    size = frontier.size
    if max(kept.roots, default=0) > size:
        found = f"expected at least {max(kept.roots)} records, as was signed, found {size}"
        return _broken(frontier, f"{found}: the last are missing")
    if (size, bytes(frontier)) != (kept.size, kept.frontier):
        found = f"expected {kept.size} records that lead to what is kept of them, found {size}"
        return _broken(frontier, f"{found}: records are missing, or were added")
    message = f"{size} records, unbroken" if size else "no records yet"
    return ChainReport(ok=True, records=size, head=_root(frontier), message=message)


def verify(links: Iterable[Link]) -> ChainReport:
    """Check that records are numbered from 1, each chained to the one before it. Pure."""
    head, count = GENESIS, 0
    for link in links:
        fault = _fault(link, head, count + 1)
        if fault:
            return ChainReport(ok=False, records=count, head=_shown(head), message=fault)
        head, count = link.hash, count + 1
    message = f"{count} records, unbroken" if count else "no records yet"
    return ChainReport(ok=True, records=count, head=_shown(head), message=message)


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
    ).order_by(col(AuditRecord.seq))
    rows = run(columns.execution_options(yield_per=_BATCH))
    links = (
        Link(seq, body, digest, (("actor", actor), ("tag", tag), ("subject", subject)))
        for seq, body, digest, actor, tag, subject in rows
    )
    size, frontier = (head.size, bytes(head.frontier)) if head else (0, b"")
    return verify_tree(links, Kept(size, frontier, roots))


def verify_device(session: Session, device_id: str) -> ChainReport:
    """Check the log of a device, as far as it has arrived."""
    columns = (
        select(DeviceAuditRecord.seq, DeviceAuditRecord.body, DeviceAuditRecord.hash)
        .where(DeviceAuditRecord.device_id == device_id)
        .order_by(col(DeviceAuditRecord.seq))
        .execution_options(yield_per=_BATCH)
    )
    return verify(Link(seq, body, digest) for seq, body, digest in session.exec(columns))


def _fault_of_leaf(link: Link, expected_seq: int) -> str | None:
    if link.seq != expected_seq:
        return f"expected record {expected_seq}, found {link.seq}: a record is missing"
    expected = leaf_hash(link.body).hex()
    if link.hash != expected:
        return (
            f"record {link.seq}: expected the hash {expected[:16]}, found {link.hash[:16]}:"
            " this record was changed"
        )
    return _fault_of_body(link)


def _fault(link: Link, head: str, expected_seq: int) -> str | None:
    if link.seq != expected_seq:
        return f"expected record {expected_seq}, found {link.seq}: a record is missing"
    expected = chain(head, link.body)
    if link.hash != expected:
        return (
            f"record {link.seq}: expected the hash {expected[:16]}, found {link.hash[:16]}:"
            " this record or one before it was changed"
        )
    return _fault_of_body(link)


def _fault_of_body(link: Link) -> str | None:
    try:
        decoded: Any = msgspec.json.decode(link.body)
    except msgspec.DecodeError as error:
        return f"record {link.seq}: expected JSON: {error}"
    body = cast("dict[str, Any]", decoded) if isinstance(decoded, dict) else {}
    for name, copy in (("seq", link.seq), *link.copies):
        said = body.get(name)
        if name == "actor":
            said = audit_events.actor_name(said)
        if said != copy:
            return f"record {link.seq}: expected {name} {said!r} as signed, found {copy!r}"
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


def _shown(head: str) -> str | None:
    return None if head == GENESIS else head
