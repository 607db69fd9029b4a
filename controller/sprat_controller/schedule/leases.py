"""Who works on what is due: one controller at a time, for a while, then whoever comes first.

A row that is due is claimed with a lease: a number above that of every claim before, and a moment
from which others may take it over. One statement claims; on PostgreSQL it passes over rows that
others are just changing (SKIP LOCKED). Each transaction that carries out a decision begins with
`hold`, which extends the lease and fails if somebody took over: a controller that was frozen and
wakes up cannot carry out what it decided before. A lease that ran out and was not taken over still
counts, for nobody else has decided anything.

Moments are those of the claimers' clocks. A wrong clock makes a take-over come early or late, and
never makes it two: the number decides, not the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy
from sqlmodel import Session

from sprat_controller.clock import Clock
from sprat_controller.store.session import BRIEF_PAUSE_MS, Database

# A decision is carried out in 0.1-0.3 s, and each one extends it: when this has passed, whoever
# holds it is frozen or gone, and another goes on.
LENGTH: Final = timedelta(seconds=1)
_log = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Another controller took over; what was decided under the lease must not be carried out."""


@dataclass(frozen=True)
class Lease:
    """A claim on one row."""

    id: str  # of the row
    number: int  # of the claim, counted for the row; the highest holds


class Leases:
    """The claims of one controller on the rows of one table."""

    def __init__(
        self,
        database: Database,
        table: sqlalchemy.Table,
        owner: str,
        clock: Clock,
        length: timedelta = LENGTH,
    ) -> None:
        """Claim for `owner`.

        Args:
            database: Where the rows are.
            table: Has `id`, `due_at`, `lease_owner`, `lease_number` and `lease_until`.
            owner: This controller; no other one has the name.
            clock: For the ends of leases.
            length: How long others leave a row alone that nobody works on any more.
        """
        self._database = database
        self._table = table
        self._owner = owner
        self._clock = clock
        self._length = length

    def forget_own(self) -> None:
        """Give back what a process of the same name held that was killed."""
        mine = self._table.c.lease_owner == self._owner
        with self._database.transaction(alone=False, pause_ms=BRIEF_PAUSE_MS) as session:
            session.connection().execute(_given_back(self._table).where(mine))

    def claim(self, now: datetime, but: Collection[str] = ()) -> Lease | None:
        """Claim the row that is due the longest and that nobody works on; None if there is none.

        Args:
            now: Rows with `due_at` up to this moment are due.
            but: Ids that are not wanted.
        """
        rows, moment = self._table.c, self._clock()
        free = rows.lease_until.is_(None) | (rows.lease_until <= moment)
        first = (
            sqlalchemy.select(rows.id)
            .where(rows.due_at <= now, free, rows.id.not_in(but))
            .order_by(rows.due_at, rows.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            # A CTE that locks is evaluated once; a subquery may be evaluated for each row.
            .cte("first")
        )
        claimed = (
            sqlalchemy.update(self._table)
            .where(rows.id.in_(sqlalchemy.select(first.c.id)))
            .values(
                lease_owner=self._owner,
                lease_number=rows.lease_number + 1,
                lease_until=moment + self._length,
            )
            .returning(rows.id, rows.lease_number)
        )
        with self._database.transaction(alone=False, pause_ms=BRIEF_PAUSE_MS) as session:
            row = session.connection().execute(claimed).first()
        return None if row is None else Lease(*row)

    def work_on_due(self, now: datetime, work: Callable[[Lease], None]) -> datetime | None:
        """Claim what is due, row after row, and have each worked on, once.

        Work that fails is logged, and its row is free again: the next time it is tried again, and
        the others go on. Work ends a lease by `give_back`, or the lease runs out.

        Args:
            now: Rows with `due_at` up to this moment are due.
            work: Brings one row as far as it goes.

        Returns:
            When to look again because another controller works on what is due: that nobody does
            any more is seen at that moment. None: nobody does.
        """
        done: set[str] = set()
        while (lease := self.claim(now, done)) is not None:
            done.add(lease.id)
            try:
                work(lease)
            except LeaseLostError as error:
                _log.warning("%s", error)
            except Exception:  # noqa: BLE001 - logged whole; one row must not hold up all others
                _log.exception("%s %s could not be brought forward", self._table.name, lease.id)
                self._free(lease)
        return self.next_take_over(now)

    def hold(self, session: Session, lease: Lease) -> None:
        """Extend the lease, inside the transaction that carries out what was decided under it.

        Raises:
            LeaseLostError: Another controller took over; the transaction must be given up.
        """
        extended = self._held(sqlalchemy.update(self._table), lease).values(
            lease_until=self._clock() + self._length
        )
        if session.connection().execute(extended).rowcount != 1:
            raise LeaseLostError(
                f"{self._table.name} {lease.id}: another controller took over from"
                f" {self._owner} (claim {lease.number})"
            )

    def give_back(self, session: Session, lease: Lease) -> None:
        """End the lease with the transaction; nothing happens if it was lost."""
        session.connection().execute(self._held(_given_back(self._table), lease))

    def next_take_over(self, now: datetime) -> datetime | None:
        """Return when the first lease of another on what is due runs out; None: there is none.

        That others work is no news; that nobody does any more is seen at that moment.
        """
        rows = self._table.c
        ends = sqlalchemy.select(sqlalchemy.func.min(rows.lease_until)).where(
            rows.due_at <= now, rows.lease_owner != self._owner
        )
        with self._database.reading() as session:
            found: datetime | None = session.connection().execute(ends).scalar()
        return found

    def _free(self, lease: Lease) -> None:
        with self._database.transaction(alone=False, pause_ms=BRIEF_PAUSE_MS) as session:
            self.give_back(session, lease)

    def _held(self, statement: sqlalchemy.Update, lease: Lease) -> sqlalchemy.Update:
        rows = self._table.c
        return statement.where(
            rows.id == lease.id,
            rows.lease_owner == self._owner,
            rows.lease_number == lease.number,
        )


def _given_back(table: sqlalchemy.Table) -> sqlalchemy.Update:
    free: dict[str, Any] = {"lease_owner": None, "lease_until": None}
    return sqlalchemy.update(table).values(**free)
