"""What was said to this device's group offline: the statement that is obeyed, and its floors.

A statement and a plan come from different keys and count in different numbers, so the one that was
issued later is the one to obey. A statement is never older than the newest plan (`time_floor` of
the plans' keys), a plan never older than the newest statement (`time_floor` of the offline keys),
and no statement comes twice (`floor` of its counter). As for every role, other keys begin anew.
"""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import UTC, datetime

from sprat_proto import bundle
from sprat_proto.bundle import OfflineRole, OfflineStatement
from sprat_proto.trust import DIRECTOR

from sprat_agent.registry.floors import (
    Standing,
    raise_time,
    raise_to,
    time_floor,
    version_floor,
)


def issued_at(statement: OfflineStatement) -> datetime:
    """Return when a statement was drafted, by the clock of who did it."""
    return datetime.fromtimestamp(statement.issued, UTC)


def key_set(role: OfflineRole) -> str:
    """Return a name for the role's keys: with other keys, counters begin anew."""
    ids = sorted(approver.key.key_id for approver in role.keys)
    return hashlib.sha256(",".join(ids).encode()).hexdigest()


def counter_floor(connection: sqlite3.Connection, role: OfflineRole) -> int:
    """Return the highest counter ever taken under these keys; 0 before the first."""
    return version_floor(connection, DIRECTOR, bundle.ROLE_FIELD, key_set(role))


def issued_floor(connection: sqlite3.Connection, role: OfflineRole) -> datetime | None:
    """Return when the newest statement ever taken under these keys was issued."""
    return time_floor(connection, key_set(role))


def read(connection: sqlite3.Connection) -> OfflineStatement | None:
    """Return the statement that is obeyed; None while a plan is."""
    row = connection.execute("SELECT statement FROM offline_statement").fetchone()
    return bundle.decode_statement(bytes(row[0])) if row else None


def keep(connection: sqlite3.Connection, statement: OfflineStatement, role: OfflineRole) -> None:
    """Keep an accepted statement and raise its floors, in the caller's transaction."""
    keys = key_set(role)
    connection.execute(
        "INSERT OR REPLACE INTO offline_statement VALUES (1, ?)",
        (bundle.encode_statement(statement),),
    )
    raise_to(connection, DIRECTOR, [Standing(bundle.ROLE_FIELD, keys, statement.counter)])
    raise_time(connection, keys, issued_at(statement))


def forget(connection: sqlite3.Connection) -> None:
    """Obey a plan from now on, in the caller's transaction; the floors stay."""
    connection.execute("DELETE FROM offline_statement")
