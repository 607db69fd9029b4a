"""Checking the chain of an audit log, the controller's own or a device's as it arrived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import sqlalchemy as sql
from sqlmodel import Session, col, select

from sprat_controller.audit.log import GENESIS, chain
from sprat_controller.store.tables import AuditRecord, DeviceAuditRecord

_BATCH = 1000


@dataclass(frozen=True)
class Link:
    """One record of a log as it is kept; `copies` must equal the same fields of the body."""

    seq: int
    body: bytes
    hash: str
    copies: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ChainReport:
    """What a check of a log found.

    Attributes:
        ok: Every record follows the one before it.
        records: How many were found whole, from the first on.
        head: Hash of the last of these; None if there is none.
        message: One sentence for people.
    """

    ok: bool
    records: int
    head: str | None
    message: str


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
    columns = sql.select(
        col(AuditRecord.seq),
        col(AuditRecord.body),
        col(AuditRecord.hash),
        col(AuditRecord.actor),
        col(AuditRecord.tag),
        col(AuditRecord.subject),
    ).order_by(col(AuditRecord.seq))
    rows = session.connection().execute(columns.execution_options(yield_per=_BATCH))
    return verify(
        Link(seq, body, digest, (("actor", actor), ("tag", tag), ("subject", subject)))
        for seq, body, digest, actor, tag, subject in rows
    )


def verify_device(session: Session, device_id: str) -> ChainReport:
    """Check the log of a device, as far as it has arrived."""
    columns = (
        select(DeviceAuditRecord.seq, DeviceAuditRecord.body, DeviceAuditRecord.hash)
        .where(DeviceAuditRecord.device_id == device_id)
        .order_by(col(DeviceAuditRecord.seq))
        .execution_options(yield_per=_BATCH)
    )
    return verify(Link(seq, body, digest) for seq, body, digest in session.exec(columns))


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
        if body.get(name) != copy:
            return (
                f"record {link.seq}: expected {name} {body.get(name)!r} as signed, found {copy!r}"
            )
    return None


def _shown(head: str) -> str | None:
    return None if head == GENESIS else head
