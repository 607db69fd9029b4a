"""What the signer remembers: versions, the revoked, and its own audit. SQLite, one file.

`synchronous=FULL`: when a signature leaves, what it was for is on disk. The audit is a hash chain
(SHA-256 of the previous hash and the record), and triggers refuse to change or remove a record.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sprat_proto import canonical
from sprat_proto.audit_events import Tag

from sprat_controller.signer.port import Revoked

GENESIS: Final = bytes(32)
FORMAT: Final = 3
_SCHEMA: Final = """
CREATE TABLE plan (
    device_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    assignment_version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE image_role (role TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;
CREATE TABLE image_online (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    snapshot INTEGER NOT NULL,
    timestamp INTEGER NOT NULL
) STRICT;
CREATE TABLE signing_key (role TEXT PRIMARY KEY, key_id TEXT NOT NULL) STRICT;
CREATE TABLE revoked_device (device_id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;
CREATE TABLE revoked_serial (serial TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;
CREATE TABLE audit (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
"""
# What a format adds to the one before.
_ADDED: Final = (
    _SCHEMA,
    """
CREATE TABLE checkpoint (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL
) STRICT;
""",
    """
CREATE TABLE restored (
    number INTEGER PRIMARY KEY,
    statement TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
""",
)


class Records:
    """The open file; any thread, one transaction at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            sqlite3.Error: It cannot be opened.
        """
        self._lock = threading.RLock()
        new = not path.exists()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        if new:
            path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        had = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if had < FORMAT:
            added = "".join(_ADDED[had:])
            self._connection.executescript(f"BEGIN;{added}PRAGMA user_version={FORMAT};COMMIT;")

    @contextmanager
    def transaction(self) -> Generator[Records]:
        """Keep all that is written in the block, or nothing on an error."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # Keys

    def begin_with(self, director: str, image: str) -> bool:
        """Forget what earlier keys signed for, and tell whether there were any.

        A thief of the controller may have had the highest versions signed. Devices forget them when
        a ceremony replaces the key, and so does the signer; else nothing could be signed any more.
        TUF versions go on: they follow the clock, not the caller.
        """
        is_director_new = self._is_new("director", director)
        is_image_new = self._is_new("image", image)
        if is_director_new:
            self._connection.execute("UPDATE plan SET assignment_version = 0")
        if is_image_new:
            self._connection.execute("DELETE FROM image_role")
        return is_director_new or is_image_new

    def _is_new(self, role: str, key_id: str) -> bool:
        row = self._one("SELECT key_id FROM signing_key WHERE role = ?", role)
        if row is not None and row[0] == key_id:
            return False
        self._connection.execute("INSERT OR REPLACE INTO signing_key VALUES (?, ?)", (role, key_id))
        return row is not None

    # Plans

    def plan(self, device_id: str) -> tuple[int, int]:
        """Return the last TUF version and assignment version signed for a device; 0, 0 if none."""
        row = self._one("SELECT version, assignment_version FROM plan WHERE device_id=?", device_id)
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def keep_plan(self, device_id: str, version: int, assignment_version: int) -> None:
        """Remember what is signed for a device."""
        self._connection.execute(
            "INSERT OR REPLACE INTO plan VALUES (?, ?, ?)", (device_id, version, assignment_version)
        )

    # The image repository

    def roles(self) -> dict[str, int]:
        """Return the versions that the last snapshot named."""
        rows = self._connection.execute("SELECT role, version FROM image_role").fetchall()
        return {str(role): int(version) for role, version in rows}

    def keep_roles(self, roles: Mapping[str, int]) -> None:
        """Remember what a snapshot names."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO image_role VALUES (?, ?)", list(roles.items())
        )

    def online(self) -> tuple[int, int]:
        """Return the last versions of snapshot and timestamp; 0, 0 before the first."""
        row = self._one("SELECT snapshot, timestamp FROM image_online")
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def keep_online(self, snapshot: int, timestamp: int) -> None:
        """Remember the versions of snapshot and timestamp."""
        self._connection.execute(
            "INSERT OR REPLACE INTO image_online VALUES (1, ?, ?)", (snapshot, timestamp)
        )

    # The controller's audit log

    def checkpoint(self) -> tuple[int, bytes] | None:
        """Return size and root of the last checkpoint that was signed."""
        row = self._one("SELECT size, root FROM checkpoint")
        return (int(row[0]), bytes(row[1])) if row else None

    def keep_checkpoint(self, size: int, root: bytes) -> None:
        """Remember what a checkpoint says."""
        self._connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (size, root))

    def keep_restored(self, statement: str, at: datetime) -> None:
        """Remember that the log went on from a state that was not signed."""
        self._connection.execute(
            "INSERT INTO restored (statement, at) VALUES (?, ?)", (statement, int(at.timestamp()))
        )

    def restored(self) -> list[str]:
        """Return what was signed each time that the log was restored, oldest first."""
        rows = self._connection.execute("SELECT statement FROM restored ORDER BY number").fetchall()
        return [str(row[0]) for row in rows]

    # The revoked

    def is_revoked(self, device_id: str) -> bool:
        """Tell whether nothing is signed for the device any more."""
        found = self._one("SELECT 1 FROM revoked_device WHERE device_id = ?", device_id)
        return found is not None

    def revoke(self, device_id: str, serials: Sequence[str], at: datetime) -> bool:
        """Remember a device that was revoked, and its certificates; for ever.

        Returns:
            Something of it was not known before.
        """
        seconds = int(at.timestamp())
        before = self._connection.total_changes
        self._connection.execute(
            "INSERT OR IGNORE INTO revoked_device VALUES (?, ?)", (device_id, seconds)
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO revoked_serial VALUES (?, ?)",
            [(serial, seconds) for serial in serials],
        )
        return self._connection.total_changes > before

    def revoked_since(self, since: datetime) -> list[Revoked]:
        """Return the certificates that were revoked since a moment, by serial."""
        rows = self._connection.execute(
            "SELECT serial, at FROM revoked_serial WHERE at >= ? ORDER BY serial",
            (int(since.timestamp()),),
        ).fetchall()
        return [Revoked(str(serial), datetime.fromtimestamp(at, UTC)) for serial, at in rows]

    # The signer's own audit

    def note(
        self, tag: Tag, subject: str, outcome: str, at: datetime, detail: Mapping[str, object]
    ) -> None:
        """Append one record."""
        row = self._one("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        seq, before = (int(row[0]) + 1, bytes(row[1])) if row else (1, GENESIS)
        body = canonical.encode(
            {
                "v": 1,
                "seq": seq,
                "ts": at.isoformat(timespec="milliseconds"),
                "actor": "signer",
                "tag": tag.value,
                "subject": subject,
                "outcome": outcome,
                "detail": dict(detail),
            }
        )
        self._connection.execute(
            "INSERT INTO audit VALUES (?, ?, ?)",
            (seq, body, hashlib.sha256(before + body).digest()),
        )

    def audit(self) -> list[tuple[int, bytes, bytes]]:
        """Return every record: position, body, hash."""
        rows = self._connection.execute("SELECT seq, body, hash FROM audit ORDER BY seq")
        return [(int(seq), bytes(body), bytes(hash_)) for seq, body, hash_ in rows]

    def first_broken(self) -> int | None:
        """Return the first position at which the audit's chain is broken; None: it is whole."""
        before = GENESIS
        for expected, (seq, body, hash_) in enumerate(self.audit(), start=1):
            if seq != expected or hashlib.sha256(before + body).digest() != hash_:
                return expected
            before = hash_
        return None

    def _one(self, statement: str, *values: str) -> tuple[Any, ...] | None:
        with self._lock:
            return self._connection.execute(statement, values).fetchone()
