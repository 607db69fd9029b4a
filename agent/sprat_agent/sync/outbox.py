"""Reports to the controller, numbered for ever and kept until acknowledged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager

from sprat_proto.v1.link_pb2 import ExecutionReport, Report

from sprat_agent.state import State


class Outbox:
    """The reports that the controller does not have yet."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._holds = 0
        self.on_ready: Callable[[], None] = _nothing  # called when something may be sent

    def write(self, connection: sqlite3.Connection, at_ms: int, execution: ExecutionReport) -> None:
        """Keep a report exactly if the caller's open transaction is kept."""
        connection.execute(
            "INSERT INTO report (at_ms, body) VALUES (?, ?)",
            (at_ms, execution.SerializeToString(deterministic=True)),
        )

    @contextmanager
    def held(self) -> Generator[None]:
        """Send nothing that is written in the block before its end.

        For a success that is on disk and takes effect in memory a moment later.
        """
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self.on_ready()

    def pending(self, after: int, limit: int) -> list[Report]:
        """Return kept reports numbered higher than `after`, in order; none while held."""
        if self._holds:
            return []
        with self._state.reading() as connection:
            rows = connection.execute(
                "SELECT seq, at_ms, body FROM report WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, limit),
            ).fetchall()
        return [
            Report(seq=seq, at_ms=at_ms, execution=ExecutionReport.FromString(body))
            for seq, at_ms, body in rows
        ]

    def oldest_unacknowledged(self) -> int:
        """Return the number of the oldest report that is kept, or the next if none is."""
        with self._state.reading() as connection:
            row = connection.execute("SELECT min(seq) FROM report").fetchone()
        return int(row[0]) if row[0] is not None else self.last_seq() + 1

    def last_seq(self) -> int:
        """Return the number of the newest report that was ever written; 0 before the first."""
        with self._state.reading() as connection:
            row = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'report'"
            ).fetchone()
        return int(row[0]) if row else 0

    def acknowledge(self, up_to: int) -> None:
        """Forget the reports up to and including this number: the controller has them.

        Raises:
            StateError: It could not be written; they will be sent again.
        """
        with self._state.transaction() as connection:
            connection.execute("DELETE FROM report WHERE seq <= ?", (up_to,))


def _nothing() -> None:
    """Nobody listens yet."""
