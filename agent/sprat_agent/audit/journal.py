"""The journal: audit records on disk until the controller has them.

A record gets its position in the transaction that keeps it. What the controller acknowledged is
removed; the head of the chain stays, so that the chain goes on.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_agent.audit.record import GENESIS, Record, make
from sprat_agent.clock import Clock
from sprat_agent.errors import StateError
from sprat_agent.state import State

_LOG = logging.getLogger(__name__)

_RETRY_S: Final = 5.0
# What may wait in memory while the disk takes nothing; then the oldest are dropped, said aloud.
_MAX_WAITING: Final = 10_000


class Journal:
    """Appends to the chain, and hands it out for upload."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self.on_append: Callable[[], None] = _nothing  # called after each kept transaction

    def append(self, tag: str, subject: str, detail: Mapping[str, object]) -> int:
        """Keep one record, in a transaction of its own; return its position.

        Raises:
            StateError: It could not be kept.
        """
        with self._state.transaction() as connection:
            seq = self.write(connection, tag, subject, detail)
        self.on_append()
        return seq

    def write(
        self,
        connection: sqlite3.Connection,
        tag: str,
        subject: str,
        detail: Mapping[str, object],
        *,
        at: datetime | None = None,
    ) -> int:
        """Keep one record exactly if the caller's open transaction is kept; return its position."""
        seq, previous = _head(connection)
        record = make(
            seq + 1, previous, at=at or self._clock(), tag=tag, subject=subject, detail=detail
        )
        connection.execute(
            "INSERT INTO audit VALUES (?, ?, ?)", (record.seq, record.body, record.hash)
        )
        connection.execute(
            "INSERT INTO audit_head VALUES (1, ?1, ?2)"
            " ON CONFLICT (only) DO UPDATE SET seq = ?1, hash = ?2",
            (record.seq, record.hash),
        )
        return record.seq

    def next_seq(self) -> int:
        """Return the position that the next record will have."""
        with self._state.reading() as connection:
            return _head(connection)[0] + 1

    def oldest_unacknowledged(self) -> int:
        """Return the position of the oldest record that is kept, or the next if none is."""
        with self._state.reading() as connection:
            row = connection.execute("SELECT min(seq) FROM audit").fetchone()
            return int(row[0]) if row[0] is not None else _head(connection)[0] + 1

    def batch(self, max_records: int, max_bytes: int) -> list[Record]:
        """Return the oldest records that are kept, in order; at least one if there is one."""
        with self._state.reading() as connection:
            rows = connection.execute(
                "SELECT seq, body, hash FROM audit ORDER BY seq LIMIT ?", (max_records,)
            ).fetchall()
        records: list[Record] = []
        size = 0
        for seq, body, hash_ in rows:
            size += len(body)
            if records and size > max_bytes:
                break
            records.append(Record(seq, body, hash_))
        return records

    def hash_at(self, seq: int) -> bytes | None:
        """Return the hash of the record at a position, if it is still kept."""
        with self._state.reading() as connection:
            row = connection.execute("SELECT hash FROM audit WHERE seq = ?", (seq,)).fetchone()
            return bytes(row[0]) if row else None

    def acknowledge(self, up_to: int) -> None:
        """Forget the records up to and including this position: the controller has them.

        Raises:
            StateError: It could not be written; they will be sent again.
        """
        with self._state.transaction() as connection:
            connection.execute("DELETE FROM audit WHERE seq <= ?", (up_to,))


@dataclass(frozen=True)
class Event:
    """What happened, before it has a position."""

    at: datetime
    tag: str
    subject: str
    detail: Mapping[str, object]


class EventWriter:
    """Takes events without waiting for the disk; a task writes them, many in one transaction.

    An inference must not wait for an SD card. What was noted in the last moment before a power cut
    may be missing; whatever has a position never is.
    """

    def __init__(self, state: State, journal: Journal, clock: Clock) -> None:
        self._state = state
        self._journal = journal
        self._clock = clock
        self._waiting: deque[Event] = deque()
        self._noted = asyncio.Event()

    def note(self, tag: str, subject: str, detail: Mapping[str, object]) -> None:
        """Have an event written soon; call it in the event loop."""
        if len(self._waiting) >= _MAX_WAITING:
            dropped = self._waiting.popleft()
            _LOG.error("audit event %s of %s is lost: the disk takes nothing", *_named(dropped))
        self._waiting.append(Event(self._clock(), tag, subject, dict(detail)))
        self._noted.set()

    async def run(self) -> None:
        """Write what is noted, for ever."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            events = self._take()
            try:
                await asyncio.shield(asyncio.to_thread(self._write, events))
            except StateError as error:
                _LOG.error("audit cannot be written, trying again in %.0f s: %s", _RETRY_S, error)
                self._waiting.extendleft(reversed(events))
                await asyncio.sleep(_RETRY_S)
                self._noted.set()
            else:
                self._journal.on_append()

    def flush(self) -> None:
        """Write all that was noted, in one transaction, before this returns.

        Raises:
            StateError: It could not be written.
        """
        self._write(self._take())

    def _take(self) -> list[Event]:
        events = list(self._waiting)
        self._waiting.clear()
        return events

    def _write(self, events: list[Event]) -> None:
        if not events:
            return
        with self._state.transaction() as connection:
            for event in events:
                self._journal.write(connection, event.tag, event.subject, event.detail, at=event.at)


def _named(event: Event) -> tuple[str, str]:
    return event.tag, event.subject


def _head(connection: sqlite3.Connection) -> tuple[int, bytes]:
    row = connection.execute("SELECT seq, hash FROM audit_head").fetchone()
    return (int(row[0]), bytes(row[1])) if row else (0, GENESIS)


def _nothing() -> None:
    """Nobody listens yet."""
