"""Opening the database and the two visible `with`s: `transaction` to change, `reading` to look.

SQLite: WAL, foreign keys on, `synchronous=FULL`, and `BEGIN IMMEDIATE` for a transaction that
changes something, so that two writers queue instead of failing half-way. Calls block: async code
hands them to a thread.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlmodel import Session, create_engine

BUSY_TIMEOUT_MS = 30_000


class Database:
    """The controller's rows."""

    def __init__(self, url: str) -> None:
        """Open `url`, for example `sqlite:///controller.db`."""
        self.engine: Engine = create_engine(url)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_by_hand)

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """Yield a session whose changes are all kept at the end, or none of them on an error."""
        with (
            Session(
                self.engine.execution_options(sprat_begin="IMMEDIATE"), expire_on_commit=False
            ) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def reading(self) -> Generator[Session]:
        """Yield a session that sees one consistent state and changes nothing."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_by_hand(connection: Any) -> None:
    kind = connection.get_execution_options().get("sprat_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")
