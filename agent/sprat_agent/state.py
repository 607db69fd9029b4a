"""`agent.db`: everything of this device that must survive a power cut, opened in this one place.

WAL with `synchronous=FULL`: when a transaction has returned it is on disk. The tables belong to
`sync.ledger`, `sync.outbox`, `audit.journal`, `audit.accounts`, `audit.configuration`,
`measuring.kept`, and of `registry` to `metadata`, `floors`, `offline` and `image`; they share one
file so that a phase, its report and its audit record, or a plan, what proves it and the floors that
it raises, are kept together or not at all.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sprat_agent.errors import StartupError, StateError
from sprat_agent.reserve import Reserve

FORMAT: Final = 8
_FIRST_FORMAT: Final = 6  # of `_SCHEMA`; what is older has an audit log of another kind

# `proved` outlives `committed`: what this device may go back to, and below what it may not go.
_SCHEMA: Final = """
CREATE TABLE assignment (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL,
    payload BLOB NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE TABLE execution (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    wanted BLOB NOT NULL,
    context INTEGER NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    watched_s INTEGER NOT NULL DEFAULT 0,
    probe TEXT,
    proving TEXT
) STRICT;
CREATE TABLE committed (
    alias TEXT PRIMARY KEY,
    wanted BLOB NOT NULL,
    context INTEGER NOT NULL,
    previous BLOB,
    previous_context INTEGER
) STRICT;
CREATE TABLE proved (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    release_counter INTEGER NOT NULL
) STRICT;
CREATE TABLE report (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    seal BLOB NOT NULL
) STRICT;
CREATE TABLE audit_head (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    seal_key BLOB NOT NULL
) STRICT;
CREATE TABLE audit_acknowledged (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL
) STRICT;
CREATE TABLE metadata (
    repository TEXT NOT NULL,
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (repository, role, version)
) STRICT;
CREATE TABLE floor (
    repository TEXT NOT NULL,
    role TEXT NOT NULL,
    keys TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (repository, role, keys)
) STRICT;
CREATE TABLE time_floor (
    keys TEXT PRIMARY KEY,
    issued INTEGER NOT NULL
) STRICT;
CREATE TABLE offline_statement (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    statement BLOB NOT NULL
) STRICT;
CREATE TABLE approver_policy (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    sha256 TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE crash (
    digest TEXT PRIMARY KEY,
    crashes INTEGER NOT NULL
) STRICT;
CREATE TABLE measurement (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    basis TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
"""

# What each later format added.
_ADDED: Final[dict[int, str]] = {
    7: """
ALTER TABLE audit_head ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit_head ADD COLUMN is_full INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit_head ADD COLUMN is_short INTEGER NOT NULL DEFAULT 0;
UPDATE audit_head SET kept_bytes = (SELECT coalesce(sum(length(body)), 0) FROM audit);
CREATE TABLE intent (
    seq INTEGER PRIMARY KEY,
    effect TEXT NOT NULL,
    subject TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL
) STRICT;
CREATE TABLE configuration (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    sha256 TEXT NOT NULL
) STRICT;
""",
    8: """
CREATE TABLE counted (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    body BLOB NOT NULL
) STRICT;
CREATE TABLE started_with (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    body BLOB NOT NULL
) STRICT;
""",
}
# Of a disk that takes nothing more; a quota says it by the second.
_FULL: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
)


class State:
    """The open state file; usable from any thread, one transaction at a time."""

    def __init__(self, folder: Path, reserve: Reserve | None = None) -> None:
        """Open or create `folder`/agent.db and keep every other agent out of the folder.

        Args:
            folder: Of the state file.
            reserve: Gives way to this file when its disk is full; None: there is none.

        Raises:
            StartupError: Another agent runs on this folder, the file cannot be opened, or a newer
                agent wrote it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._reserve = reserve
        if reserve:
            reserve.look()  # to open it takes some room, too
        self._lock_file = _take_folder(folder)
        try:
            self._connection = _open(folder / "agent.db")
        except sqlite3.Error as error:
            os.close(self._lock_file)
            raise StartupError(f"cannot open the state file in {folder}: {error}") from error
        except StartupError:
            os.close(self._lock_file)
            raise

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Yield the connection; all that is written is kept when the block ends without an error.

        Not to be nested.

        Raises:
            StateError: It could not be kept; nothing was.
        """
        with self._lock, _translated():
            if self._reserve:
                self._reserve.look()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if self._reserve and isinstance(error, sqlite3.Error) and _is_full(error):
                    self._reserve.give_way()  # for whoever tries again
                raise

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """Yield the connection for reading.

        Raises:
            StateError: It could not be read.
        """
        with self._lock, _translated():
            yield self._connection

    def close(self) -> None:
        """Close the file and let another agent have the folder."""
        with self._lock:
            self._connection.close()
            os.close(self._lock_file)


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in _FULL


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(f"the state file agent.db: {error}") from error


def _take_folder(folder: Path) -> int:
    """Lock the folder for this process; two agents would fork the numbers of reports and audit."""
    descriptor = os.open(folder / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StartupError(
            f"another agent is running on {folder}: stop it, or give this one another --state"
        ) from error
    return descriptor


def _open(path: Path) -> sqlite3.Connection:
    new = not path.exists()
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        if new:
            path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # A key that was replaced must not be found in the pages of the file.
        connection.execute("PRAGMA secure_delete = ON")
        _bring_up_to_date(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found == FORMAT:
        return
    if found > FORMAT:
        raise StartupError(
            f"{path} has format {found} and this agent understands {FORMAT}: install the agent"
            " that wrote it, or a newer one"
        )
    if 0 < found < _FIRST_FORMAT:
        raise StartupError(
            f"{path} has format {found}, whose audit log this agent cannot go on with: bring over"
            " what waits in it with the agent that wrote it, remove the folder, and enrol the"
            " device anew"
        )
    missing = [] if found else [_SCHEMA]
    missing += [added for number, added in sorted(_ADDED.items()) if number > found]
    connection.executescript(f"BEGIN;{''.join(missing)}PRAGMA user_version = {FORMAT};COMMIT;")
