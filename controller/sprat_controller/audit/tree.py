"""Reading the tree of the controller's audit log: subtrees, roots of before, proofs.

Levels are those of the binary tree. Hashes are kept at every eighth level (`log.TILE_LEVELS`),
level 0 beside the records; what is between is computed of at most 128 of them.
"""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sql
from sprat_proto import merkle
from sprat_proto.merkle import HASH_SIZE, Frontier
from sqlmodel import Session, col

from sprat_controller.audit.log import TILE_LEVELS
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.store.tables import AuditHead, AuditRecord, AuditSubtree

TILE_WIDTH = 1 << TILE_LEVELS
_HEX: Final = re.compile(r"[0-9a-f]{64}")


def size(session: Session) -> int:
    """Return how many records the log has."""
    return session.connection().execute(sql.select(col(AuditHead.size))).scalar() or 0


def hashes(session: Session, level: int, start: int, count: int) -> list[bytes]:
    """Return neighbouring hashes of a level that is kept.

    Args:
        session: A session.
        level: 0 for records, 1 for subtrees of 256 of them, 2 for those of 65,536, …
        start: Index of the first.
        count: How many.

    Raises:
        ConflictError: `audit_damaged`: some of them are missing.
    """
    if level == 0:
        wanted = (
            sql.select(col(AuditRecord.hash))
            .where(col(AuditRecord.seq) > start, col(AuditRecord.seq) <= start + count)
            .order_by(col(AuditRecord.seq))
        )
        read = session.connection().execute(wanted).scalars()
        found = [bytes.fromhex(one) if _HEX.fullmatch(one) else b"" for one in read]
    else:
        at = col(AuditSubtree.index)
        wanted = (
            sql.select(col(AuditSubtree.hash))
            .where(col(AuditSubtree.level) == level, at >= start, at < start + count)
            .order_by(at)
        )
        found = [bytes(one) for one in session.connection().execute(wanted).scalars()]
    good = sum(len(one) == HASH_SIZE for one in found)
    if good != count or len(found) != count:
        raise damaged(f"expected {count} hashes of level {level} from {start} on, found {good}")
    return found


def bodies(session: Session, start: int, count: int) -> list[bytes]:
    """Return the records of neighbouring leaves, from index `start` on, as they were written.

    Raises:
        ConflictError: `audit_damaged`: some of them are missing.
    """
    seq = col(AuditRecord.seq)
    wanted = (
        sql.select(col(AuditRecord.body)).where(seq > start, seq <= start + count).order_by(seq)
    )
    found = [bytes(one) for one in session.connection().execute(wanted).scalars()]
    if len(found) != count:
        raise damaged(f"expected {count} records from {start + 1} on, found {len(found)}")
    return found


def damaged(how: str) -> ConflictError:
    """Return the error of who finds rows that nobody here has written."""
    return ConflictError(
        "audit_damaged", f"the audit log is damaged: {how}: run `sprat audit verify`"
    )


class Tree:
    """The tree as one session sees it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[tuple[int, int], bytes] = {}  # neighbours' proofs share most of them
        self.size = size(session)

    def subtree(self, level: int, index: int) -> bytes:
        """Return the root of a complete subtree."""
        known = self._known.get((level, index))
        if known is None:
            tile, above = divmod(level, TILE_LEVELS)
            frontier = Frontier()
            for one in hashes(self._session, tile, index << above, 1 << above):
                frontier.append(one)
            known = self._known[level, index] = frontier.root()
        return known

    def root(self, at_size: int) -> bytes:
        """Return the root that the log had at a size.

        Raises:
            NotFoundError: It has not grown so far.
        """
        self._check(at_size)
        return merkle.frontier_at(at_size, self.subtree).root()

    def inclusion(self, seq: int, at_size: int) -> list[bytes]:
        """Return the proof that a record is in the log of a size.

        Raises:
            NotFoundError: The log of that size has no such record, or it has not grown so far.
        """
        self._check(at_size)
        if not 0 < seq <= at_size:
            raise NotFoundError(
                "record_not_found", f"expected a record of 1 to {at_size}, found {seq}"
            )
        return merkle.inclusion_proof(seq - 1, at_size, self.subtree)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the log of `new` records begins with that of `old`.

        Raises:
            NotFoundError: The sizes are not 0 < old <= new <= the log's.
        """
        self._check(new)
        if not 0 < old <= new:
            raise NotFoundError(
                "checkpoint_not_found", f"expected sizes 0 < from <= to, found {old} and {new}"
            )
        return merkle.consistency_proof(old, new, self.subtree)

    def _check(self, at_size: int) -> None:
        if at_size > self.size:
            raise NotFoundError(
                "checkpoint_not_found",
                f"the audit log has {self.size} records: it was never as long as {at_size}",
            )
