"""TUF metadata as rows of `agent.db`: what was verified, by repository, role and version.

Of the root every version above the pinned one is kept, of the other roles the newest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sprat_proto.trust import Repository

ROOT: Final = "root"
TIMESTAMP: Final = "timestamp"


@dataclass(frozen=True)
class Row:
    """One metadata file."""

    role: str
    version: int
    data: bytes

    @property
    def name(self) -> str:
        """As the image repository serves it."""
        return "timestamp.json" if self.role == TIMESTAMP else f"{self.version}.{self.role}.json"


def read(connection: sqlite3.Connection, repository: Repository) -> tuple[Row, ...]:
    """Return all that is kept of a repository, roots in order."""
    rows = connection.execute(
        "SELECT role, version, data FROM metadata WHERE repository = ? ORDER BY role, version",
        (repository,),
    ).fetchall()
    return tuple(Row(role, version, bytes(data)) for role, version, data in rows)


def read_role(connection: sqlite3.Connection, repository: Repository, role: str) -> Row | None:
    """Return the newest metadata of a role; None before the first."""
    found = connection.execute(
        "SELECT version, data FROM metadata WHERE repository = ? AND role = ?"
        " ORDER BY version DESC LIMIT 1",
        (repository, role),
    ).fetchone()
    return Row(role, found[0], bytes(found[1])) if found else None


def write(connection: sqlite3.Connection, repository: Repository, rows: Iterable[Row]) -> None:
    """Keep what was verified, in the caller's transaction; a root is added, others replaced."""
    for row in rows:
        if row.role != ROOT:
            connection.execute(
                "DELETE FROM metadata WHERE repository = ? AND role = ?", (repository, row.role)
            )
        connection.execute(
            "INSERT OR REPLACE INTO metadata VALUES (?, ?, ?, ?)",
            (repository, row.role, row.version, row.data),
        )


def only_roots(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the roots among the rows."""
    return tuple(row for row in rows if row.role == ROOT)


def changed(before: Sequence[Row], after: Iterable[Row]) -> tuple[Row, ...]:
    """Return what is not kept yet."""
    kept = set(before)
    return tuple(row for row in after if row not in kept)


def files(rows: Iterable[Row]) -> Mapping[str, bytes]:
    """Return the rows as files, by name."""
    return {row.name: row.data for row in rows}
