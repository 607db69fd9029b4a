"""What applications did, on its way to the journal: one by one, or as sums of an hour.

Nothing here waits for the disk while somebody waits for an answer. A record of its own goes the way
of all events (`EventWriter`). Sums are kept in memory, and on disk `SAVE_S` after a request to a
model, `SAVE_ACCESS_S` after any other; they become records when their hour has ended or the agent
stops. A sum leaves its place on the disk in the transaction that writes its record, so that none is
told twice. What a kill can cost is what was counted since it was last saved.

While the journal has no room (`Journal.fill`) there are sums alone, whatever the policy says.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from sprat_agent.audit import access, inference, sums
from sprat_agent.audit.access import Access
from sprat_agent.audit.capture import Capturing
from sprat_agent.audit.inference import Alone, Inference
from sprat_agent.audit.journal import EventWriter, Journal
from sprat_agent.audit.sums import Addend, Sum, Sums
from sprat_agent.clock import Clock
from sprat_agent.errors import StateError
from sprat_agent.state import State

_LOG = logging.getLogger(__name__)

SAVE_S: Final = 60.0
# Somebody looks every few seconds whether the device is well: that must not wear out its flash.
SAVE_ACCESS_S: Final = 600.0


class Accounts:
    """Takes what the local API did; `run` writes it down."""

    def __init__(
        self,
        state: State,
        journal: Journal,
        events: EventWriter,
        *,
        clock: Clock,
        draw: Callable[[], float],
        one_in: int = 0,
        capturing: Capturing | None = None,
        save_s: float = SAVE_S,
        save_access_s: float = SAVE_ACCESS_S,
    ) -> None:
        """Go on with what an agent before this one had counted.

        Args:
            state: Where sums are until they are records.
            journal: Where records go.
            events: For records of their own.
            clock: Whose hours are meant.
            draw: Gives a number from 0 to below 1.
            one_in: See `inference.decide`.
            capturing: Takes down what is said, if a policy says so.
            save_s: How long after a request to a model sums may be in memory alone.
            save_access_s: How long after any other.

        Raises:
            StateError: The state cannot be read.
        """
        self.capturing = capturing
        self._state = state
        self._journal = journal
        self._events = events
        self._clock = clock
        self._draw = draw
        self._one_in = one_in
        self._save_s = save_s
        self._save_access_s = save_access_s
        self._sums = Sums()
        self._sums.put_back(self._kept())
        self._is_changed = False  # since it was saved
        self._inferred = asyncio.Event()
        self._has_room = self._look_for_room()

    def inferred(self, one: Inference, content: Mapping[str, object] | None = None) -> None:
        """Take one request to a model, at its end; call it in the event loop."""
        one_in = self._one_in if self._has_room else 0
        match inference.decide(one_in, self._draw(), one, content):
            case Alone() as alone:
                self._events.note(alone.tag, alone.subject, alone.detail)
            case Addend() as addend:
                self._count(addend)
        self._inferred.set()

    def accessed(self, one: Access) -> None:
        """Take one request to the local API; call it in the event loop."""
        self._count(access.addend(one))

    async def run(self) -> None:
        """Save what is counted, and write the records of hours that have ended, for ever."""
        while True:
            with suppress(TimeoutError):
                # Not `wait_for`, which in Python 3.11 may swallow that it was cancelled.
                async with asyncio.timeout(min(self._save_access_s, self._hour_left_s())):
                    await self._inferred.wait()
            if self._inferred.is_set():
                await asyncio.sleep(min(self._save_s, self._hour_left_s()))
            self._inferred.clear()
            await self._save()

    def close(self) -> None:
        """Write the records of all that was counted, before this returns.

        Raises:
            StateError: They could not be written and are counted on; what was saved is written at
                the next start.
        """
        taken = self._sums.take_all()
        try:
            if taken:
                self._write(taken, b"")
        except StateError:
            self._sums.put_back(taken)
            raise

    def _count(self, addend: Addend) -> None:
        self._sums.add(self._clock(), addend)
        self._is_changed = True

    def _hour_left_s(self) -> float:
        """Return how long this hour goes on, and a moment more."""
        now = self._clock()
        return (sums.HOUR - (now - sums.began(sums.hour_of(now)))).total_seconds() + 0.01

    async def _save(self) -> None:
        ended = self._sums.take_ended(self._clock())
        rest = sums.encode(self._sums.all()) if ended or self._is_changed else None
        self._is_changed = False
        saving = asyncio.create_task(asyncio.to_thread(self._write, ended, rest), name="save sums")
        try:
            await asyncio.shield(saving)
        except StateError as error:
            _LOG.error("sums of the hour cannot be written, trying again: %s", error)
            self._try_again(ended)
        except asyncio.CancelledError:
            # `close` comes next: it must not be overtaken by what this wrote down before.
            await asyncio.wait({saving})
            if saving.exception():
                self._try_again(ended)
            raise
        else:
            if ended:
                self._journal.on_append()

    def _try_again(self, ended: Iterable[Sum]) -> None:
        self._has_room = False
        self._sums.put_back(ended)
        self._is_changed = True
        self._inferred.set()

    def _write(self, ended: Iterable[Sum], rest: bytes | None) -> None:
        """Write records, and what is counted beside them; None: that is as it was saved."""
        # Before anything is kept: what fails after that would be written twice.
        has_room = self._look_for_room()
        if rest is not None:
            with self._state.transaction() as connection:
                for one in ended:
                    self._journal.write(connection, one.tag, one.subject, one.detail())
                _keep(connection, rest)
        self._has_room = has_room

    def _look_for_room(self) -> bool:
        found = self._journal.fill()
        return not (found.is_full or found.is_short)

    def _kept(self) -> tuple[Sum, ...]:
        with self._state.reading() as connection:
            row = connection.execute("SELECT body FROM counted").fetchone()
        try:
            return sums.decode(row[0]) if row and row[0] else ()
        except msgspec.DecodeError as error:
            raise StateError(f"expected sums in agent.db, found other bytes: {error}") from error


def _keep(connection: sqlite3.Connection, body: bytes) -> None:
    connection.execute(
        "INSERT INTO counted VALUES (1, ?1) ON CONFLICT (only) DO UPDATE SET body = ?1", (body,)
    )
