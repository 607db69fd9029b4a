"""Writing an export of the controller's audit log, page by page: what `export` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import sqlalchemy as sql
from sqlmodel import Session, col

from sprat_controller.audit import expiring
from sprat_controller.audit.checkpoints import Signed
from sprat_controller.audit.export import (
    End,
    Head,
    SignedHere,
    Subtree,
    expired_line,
    line,
    record_line,
)
from sprat_controller.audit.tree import TILE_WIDTH, Tree
from sprat_controller.store import queries
from sprat_controller.store.queries import AuditFilter
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditCheckpoint, AuditRecord, AuditSubtree

VERSION: Final = 1
# The log is only ever appended to: pages that are read one after the other are as good as one look.
PAGE: Final = 1000


def whole(database: Database, signed: Signed) -> Iterator[bytes]:
    """Yield an export of all records up to a checkpoint, a page at a time.

    Raises:
        ConflictError: `audit_not_signed`: records expired, and what says so is beyond it. It is
            raised on the way if they expire meanwhile; the export is cut off then.
    """
    yield line(Head(VERSION, str(signed.note), whole=True))
    size = signed.checkpoint.size
    for after in range(0, size, PAGE):
        last = min(after + PAGE, size)
        # Nothing is sent inside: who reads slowly, or not to the end, holds up nothing.
        with database.reading() as session:
            expiring.check_covered(session, size)
            page = b"".join(_page(session, after, last))
        yield page
    yield line(End(size))


def part(database: Database, signed: Signed, wanted: AuditFilter) -> Iterator[bytes]:
    """Yield an export of those records up to a checkpoint that meet a filter, each with a proof.

    Those that expired are left out: nobody knows any more what they were about.
    """
    yield line(Head(VERSION, str(signed.note), whole=False, wanted=wanted.said()))
    size, after, count = signed.checkpoint.size, 0, 0
    while True:
        with database.reading() as session:
            rows = queries.audit_page(session, wanted, after=after, limit=PAGE)
            rows = [row for row in rows if row.seq <= size]
            kept = [row for row in rows if row.body]
            page = b"".join(proved(session, kept, size))
        yield page
        count += len(kept)
        if len(rows) < PAGE:
            break
        after = rows[-1].seq
    yield line(End(count))


def view(
    database: Database, wanted: AuditFilter, size: int, render: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    """Yield a view of those records up to a size that meet a filter; no proof is in it.

    Those that expired are left out.
    """
    after = 0
    while True:
        with database.reading() as session:
            rows = queries.audit_page(session, wanted, after=after, limit=PAGE)
        yield b"".join(render(row.body) for row in rows if row.body and row.seq <= size)
        if len(rows) < PAGE or rows[-1].seq >= size:
            return
        after = rows[-1].seq


def _page(session: Session, after: int, last: int) -> Iterator[bytes]:
    run = session.connection().execute
    seq = col(AuditRecord.seq)
    rows = run(
        sql.select(seq, col(AuditRecord.body), col(AuditRecord.hash))
        .where(seq > after, seq <= last)
        .order_by(seq)
    ).all()
    subtrees = _subtrees(session, after, last)
    size = col(AuditCheckpoint.size)
    notes = run(sql.select(size, col(AuditCheckpoint.note)).where(size > after, size <= last))
    signed = {at: SignedHere(note) for at, note in notes}
    for number, body, digest in rows:
        yield record_line(bytes(body), digest) if body else expired_line(number, digest)
        yield from (line(one) for one in subtrees.get(number, ()))
        if number in signed:
            yield line(signed[number])


def _subtrees(session: Session, after: int, last: int) -> dict[int, list[Subtree]]:
    """Return the subtrees that end in a page, by the record that they end with."""
    found: dict[int, list[Subtree]] = {}
    level, width = 1, TILE_WIDTH
    while width <= last:
        at = col(AuditSubtree.index)
        rows = session.connection().execute(
            sql.select(at, col(AuditSubtree.hash))
            .where(col(AuditSubtree.level) == level, at >= after // width, at < last // width)
            .order_by(at)
        )
        for index, root in rows:
            found.setdefault((index + 1) * width, []).append(Subtree(level, bytes(root).hex()))
        level, width = level + 1, width * TILE_WIDTH
    return found


def proved(session: Session, rows: Sequence[AuditRecord], size: int) -> Iterator[bytes]:
    """Yield the lines of records, each with the proof that it is in the log of a size."""
    tree = Tree(session)
    for row in rows:
        yield record_line(row.body, row.hash, tree.inclusion(row.seq, size))
