"""How far each destination has the log: one row each, and which controller sends on to it.

A controller claims a destination for a while, and moves it on only while it holds the claim: of
controllers that share their rows one sends, and another goes on if it is gone. What was sent and
not yet written here is sent again: at least once, never a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

import sqlalchemy as sql
from sqlmodel import col, select

from sprat_controller.store.session import BRIEF_PAUSE_MS, Database
from sprat_controller.store.tables import AuditForwarding, AuditRecord, of

# Longer than a batch takes at most, or another controller would send it, too.
CLAIM: Final = timedelta(minutes=2)
BATCH: Final = 256


class Numbered(NamedTuple):
    """A record, and its position; the body of one that expired is empty."""

    seq: int
    body: bytes


class Positions(Protocol):
    """How far a destination is, and what comes next; one thread."""

    def begin(self) -> None:
        """Have a row: whoever is new gets all there is."""
        ...

    def claim(self, now: datetime) -> int | None:
        """Return after which number to send; None: another controller sends."""
        ...

    def next_records(self) -> Sequence[Numbered]:
        """Return the next records that the destination does not have; this writes nothing."""
        ...

    def move(self, seq: int, now: datetime) -> bool:
        """Write down that it has all up to this number; False: it is no more ours."""
        ...

    def release(self) -> None:
        """Leave it to whoever is next."""
        ...


class Position:
    """Of one destination in the controller's own log; one thread."""

    def __init__(self, database: Database, destination: str, owner: str) -> None:
        self._database = database
        self._destination = destination
        self._owner = owner

    def begin(self) -> None:
        """Have a row: whoever is new gets the whole log."""
        with self._database.transaction() as session:
            if session.get(AuditForwarding, self._destination) is None:
                session.add(AuditForwarding(destination=self._destination))

    def claim(self, now: datetime) -> int | None:
        """Return up to which record the destination has them; None: another controller sends."""
        table = of(AuditForwarding)
        rows = table.c
        mine = rows.owner.is_(None) | (rows.owner == self._owner) | (rows.claimed_until <= now)
        claimed = (
            sql.update(table)
            .where(rows.destination == self._destination, mine)
            .values(owner=self._owner, claimed_until=now + CLAIM)
            .returning(rows.seq)
        )
        with self._database.transaction(alone=False, pause_ms=BRIEF_PAUSE_MS) as session:
            found: int | None = session.connection().execute(claimed).scalar()
        return found

    def next_records(self) -> Sequence[Numbered]:
        """Return the next records that the destination does not have; this writes nothing."""
        had = (
            select(AuditForwarding.seq)
            .where(col(AuditForwarding.destination) == self._destination)
            .scalar_subquery()
        )
        wanted = (
            select(AuditRecord.seq, AuditRecord.body)
            .where(col(AuditRecord.seq) > had)
            .order_by(col(AuditRecord.seq))
            .limit(BATCH)
        )
        with self._database.reading() as session:
            return [Numbered(number, bytes(body)) for number, body in session.exec(wanted)]

    def move(self, seq: int, now: datetime) -> bool:
        """Write down that the destination has all up to this record; False: it is no more ours."""
        table = of(AuditForwarding)
        moved = (
            sql.update(table)
            .where(table.c.destination == self._destination, table.c.owner == self._owner)
            .values(seq=seq, sent_at=now, claimed_until=now + CLAIM)
        )
        with self._database.transaction(alone=False, pause_ms=BRIEF_PAUSE_MS) as session:
            return session.connection().execute(moved).rowcount == 1

    def release(self) -> None:
        """Leave it to whoever is next."""
        table = of(AuditForwarding)
        given_back = (
            sql.update(table)
            .where(table.c.destination == self._destination, table.c.owner == self._owner)
            .values(owner=None, claimed_until=None)
        )
        with self._database.transaction(alone=False, pause_ms=BRIEF_PAUSE_MS) as session:
            session.connection().execute(given_back)
