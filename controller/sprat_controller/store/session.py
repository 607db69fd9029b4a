"""Opening the database and the two visible `with`s: `transaction` to change, `reading` to look.

Transactions that change something take turns: one at a time, over all threads and all controllers.
SQLite knows no other way (`BEGIN IMMEDIATE`). On PostgreSQL they queue for an advisory lock before
they read anything. Each change that counts appends to the audit log, whose records are a chain, so
they would queue there in any case, but with other rows locked already: as a deadlock. Taking turns
from the start leaves no lost update, no deadlock and no serialization failure to try again after,
and what is proved on one dialect holds on the other. What it costs: PostgreSQL's commits do not
overlap. `alone=False` is for a single statement that must not wait for its turn: leases.

SQLite: WAL, foreign keys on, `synchronous=FULL`. PostgreSQL: READ COMMITTED in turn, REPEATABLE
READ to look; whoever says nothing for too long inside a transaction is cut off, or a frozen
controller would hold up all others. Calls block: async code hands them to a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlmodel import Session, create_engine

BUSY_TIMEOUT_MS: Final = 30_000
# The longest that this process may think between two statements: planning 10,000 devices takes 5 s.
PAUSE_MS: Final = 15_000
# The same for what many devices or rollouts wait for: longer, and others go on without it.
BRIEF_PAUSE_MS: Final = 1_000
_CONNECT_TIMEOUT_S: Final = 10
# One number among all advisory locks of the database: "sprat" in ASCII.
_TURN: Final = int.from_bytes(b"sprat")


class Database:
    """The controller's rows."""

    def __init__(self, url: str) -> None:
        """Open `url`: `sqlite:///FILE` or `postgresql+psycopg://USER@HOST/NAME`."""
        self.engine: Engine = create_engine(url, **_options(url))
        self._reading = self.engine
        # Threads of one process queue here, and only the first of them in PostgreSQL: a frozen
        # process is given one turn at most, and is cut off in it, however many of its threads wait.
        self._turn = threading.Lock()
        # What each transaction's session knows besides; see `audit.watch`.
        self.info: dict[Any, Any] = {}
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_by_hand)
        else:
            event.listen(self.engine, "connect", _configure_postgresql)
            event.listen(self.engine, "begin", _wait_for_turn)
            self._reading = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @property
    def is_shared(self) -> bool:
        """Other controllers may be using it at the same time."""
        return self.engine.dialect.name != "sqlite"

    @contextmanager
    def transaction(self, *, alone: bool = True, pause_ms: int = PAUSE_MS) -> Generator[Session]:
        """Yield a session whose changes are all kept at the end, or none of them on an error.

        Args:
            alone: No other of these runs meanwhile. False: for one statement, which on PostgreSQL
                waits for nothing but the rows it touches.
            pause_ms: The longest between two statements. PostgreSQL undoes the transaction of
                whoever takes longer, and the next statement fails; SQLite does not look.
        """
        begin = "IMMEDIATE" if alone else "BESIDE"
        engine = self.engine.execution_options(sprat_begin=begin, sprat_pause_ms=pause_ms)
        queue = self._turn if alone and self.is_shared else nullcontext()
        with (
            queue,
            Session(engine, expire_on_commit=False, info=self.info) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def reading(self) -> Generator[Session]:
        """Yield a session that sees one consistent state and changes nothing."""
        with Session(self._reading, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def _options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {}
    return {
        # A connection that the server closed is noticed before it is used, not by whom it fails.
        "pool_pre_ping": True,
        "connect_args": {
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "application_name": "sprat-controller",
            # A server that is gone without a word is noticed: all threads wait for who talks to it.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": BUSY_TIMEOUT_MS,
        },
    }


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
    connection.exec_driver_sql("BEGIN DEFERRED" if kind == "DEFERRED" else "BEGIN IMMEDIATE")


def _configure_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        for setting in (
            f"lock_timeout={BUSY_TIMEOUT_MS}",
            f"idle_in_transaction_session_timeout={PAUSE_MS}",
            "timezone='UTC'",
            # It compiles what it believes to be long, which takes longer than our longest query.
            "jit=off",
        ):
            cursor.execute(f"SET {setting}")
    connection.commit()


def _wait_for_turn(connection: Any) -> None:
    options = connection.get_execution_options()
    kind = options.get("sprat_begin")
    if kind is None:
        return
    pause_ms = options.get("sprat_pause_ms", PAUSE_MS)
    first = f"SELECT set_config('idle_in_transaction_session_timeout', '{pause_ms}', true)"
    # One round trip. The snapshot of each later statement is taken after the turn has come.
    turn = f", pg_advisory_xact_lock({_TURN})" if kind == "IMMEDIATE" else ""
    connection.exec_driver_sql(first + turn)
