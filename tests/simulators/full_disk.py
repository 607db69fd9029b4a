"""A disk that a test fills and empties: of the state file by SQLite's own limit, else a tmpfs."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sprat_agent.audit.record import Record
from sprat_agent.state import State
from sprat_controller.audit.device_logs import Sealed

from simulators.sealed import assert_whole

_REFUSING = """
CREATE TEMP TRIGGER full_{change}_{table} BEFORE {change} ON main.{table} BEGIN
    SELECT refuse();
    INSERT INTO filler VALUES (zeroblob(65536));
END
"""


class FullState:
    """The state file on a disk that takes nothing more, from `fill` to `empty`.

    A page that is not quite full would take a few more rows, so each written row asks for new pages
    first; the failure is SQLite's own.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.refused = 0
        self.is_full = False
        with state.transaction() as connection:
            connection.execute("CREATE TABLE filler (data BLOB)")
            connection.create_function("refuse", 0, self._refuse)

    def fill(self) -> None:
        """Take nothing from now on."""
        if self.is_full:
            return
        self.is_full = True
        with self._state.reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
            for table in self._tables():
                for change in ("INSERT", "UPDATE", "DELETE"):
                    connection.execute(_REFUSING.format(change=change, table=table))

    def empty(self) -> None:
        """Take everything again."""
        self.is_full = False
        with self._state.reading() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
            for table in self._tables():
                for change in ("INSERT", "UPDATE", "DELETE"):
                    connection.execute(f"DROP TRIGGER temp.full_{change}_{table}")

    def _tables(self) -> list[str]:
        with self._state.reading() as connection:
            rows = connection.execute(
                "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name != 'filler'"
                " AND name NOT LIKE 'sqlite%'"
            ).fetchall()
        return [str(name) for (name,) in rows]

    def _refuse(self) -> int:
        self.refused += 1
        return 0


def assert_unbroken(records: Sequence[Record]) -> None:
    """Hold that a whole journal is one log from its first record on."""
    assert_whole([Sealed(one.seq, one.body, one.seal) for one in records])


@contextmanager
def small_disk(folder: Path, size: int) -> Generator[Path]:
    """Yield a folder on a disk of its own, of this many bytes; skips where none can be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """Fill the folder's disk but for about so many bytes; remove what is returned to free it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(file.tell() - left, 0))
    return filler
