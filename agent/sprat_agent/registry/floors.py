"""Versions and times below which this device never goes again, whatever became of its metadata.

A floor belongs to a set of keys: where the keys were rotated it begins anew, so that a thief of the
old ones who pushed it to the end of numbers (a fast-forward) has harmed nobody for long. Only
statements that were signed raise a floor; clocks never do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sprat_proto.trust import Repository


@dataclass(frozen=True)
class Standing:
    """The version of a role that was verified, and the keys that could have signed it."""

    role: str
    keys: str
    version: int


def lowered(
    connection: sqlite3.Connection, repository: Repository, found: Iterable[Standing]
) -> tuple[Standing, int] | None:
    """Return the first standing that is below its floor, and that floor; None if none is."""
    for one in found:
        floor = version_floor(connection, repository, one.role, one.keys)
        if one.version < floor:
            return one, floor
    return None


def version_floor(
    connection: sqlite3.Connection, repository: Repository, role: str, keys: str
) -> int:
    """Return the highest version of the role ever taken under these keys; 0 before the first."""
    row = connection.execute(
        "SELECT version FROM floor WHERE repository = ? AND role = ? AND keys = ?",
        (repository, role, keys),
    ).fetchone()
    return int(row[0]) if row else 0


def raise_to(
    connection: sqlite3.Connection, repository: Repository, found: Iterable[Standing]
) -> None:
    """Raise the floors, in the caller's transaction; none is ever lowered."""
    connection.executemany(
        "INSERT INTO floor VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT DO UPDATE SET version = max(version, ?4)",
        [(repository, one.role, one.keys, one.version) for one in found],
    )


def time_floor(connection: sqlite3.Connection, keys: str) -> datetime | None:
    """Return when the newest plan under these keys of the director was issued."""
    row = connection.execute("SELECT issued FROM time_floor WHERE keys = ?", (keys,)).fetchone()
    return datetime.fromtimestamp(row[0], UTC) if row else None


def raise_time(connection: sqlite3.Connection, keys: str, issued: datetime) -> None:
    """Raise the time floor of these keys, in the caller's transaction."""
    connection.execute(
        "INSERT INTO time_floor VALUES (?1, ?2) ON CONFLICT DO UPDATE SET issued = max(issued, ?2)",
        (keys, int(issued.timestamp())),
    )
