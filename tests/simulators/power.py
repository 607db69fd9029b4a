"""A disk as a power cut leaves it: copies of the state folder at every statement of SQLite.

What `kill -9` leaves is what the files hold at that moment; what a power cut leaves may lack the
end of what was not synchronised yet, so copies are also cut.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from sprat_agent.state import State

_FILES = ("agent.db", "agent.db-wal")


def moments(state: State, folder: Path, copies: Path, work: Callable[[], object]) -> list[Path]:
    """Do the work and return a copy of the state as it was before each of its statements."""
    with watched(state, folder, copies) as taken:
        work()
    return taken


@contextmanager
def watched(
    state: State, folder: Path, copies: Path, note: Callable[[], None] | None = None
) -> Generator[list[Path]]:
    """Yield the copies of the state as it is before each statement in the block, as they come.

    `note` is called with each, to remember what else is there at that moment.
    """
    taken: list[Path] = []

    def take(_statement: str) -> None:
        if note is not None:
            note()
        copy = copies / str(len(taken))
        copy.mkdir(parents=True)
        for name in _FILES:
            if (folder / name).exists():
                shutil.copyfile(folder / name, copy / name)
        taken.append(copy)

    with state.reading() as connection:
        connection.set_trace_callback(take)
    try:
        yield taken
    finally:
        with state.reading() as connection:
            connection.set_trace_callback(None)


def cuts(taken: list[Path], copies: Path, number: int, chance: random.Random) -> Iterator[Path]:
    """Yield so many disks: the moments themselves, then some whose log ends or is damaged early."""
    yield from taken
    for count in range(number - len(taken)):
        copy = copies / f"cut-{count}"
        shutil.copytree(chance.choice(taken), copy)
        _damage(copy / "agent.db-wal", chance)
        (copy / "scratch" / "left").mkdir(parents=True)
        (copy / "scratch" / "left" / "timestamp.json").write_bytes(chance.randbytes(50))
        yield copy


def _damage(log: Path, chance: random.Random) -> None:
    data = bytearray(log.read_bytes() if log.exists() else b"")
    if not data:
        return
    at = chance.randrange(len(data))
    if chance.random() < 0.5:
        del data[at:]
    else:
        data[at] ^= 1 << chance.randrange(8)
        del data[at + 1 + chance.randrange(len(data) - at) :]
    log.write_bytes(data)
