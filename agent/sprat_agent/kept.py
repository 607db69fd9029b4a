"""How much waits on this device's disk until the controller acknowledges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sprat_agent.state import State

_SLICE: Final = 4096  # records: nobody waits for the state file much longer than for these
_SLICES: Final = {
    "report": "SELECT max(seq), count(*), sum(size) FROM"
    " (SELECT seq, length(body) AS size FROM report WHERE seq > ? ORDER BY seq LIMIT ?)",
    "audit": "SELECT max(seq), count(*), sum(size) FROM"
    " (SELECT seq, length(body) AS size FROM audit WHERE seq > ? ORDER BY seq LIMIT ?)",
}


@dataclass(frozen=True)
class Kept:
    """Records of one kind, and the bytes of their bodies."""

    records: int
    size_bytes: int


def kept_blocking(state: State) -> Mapping[str, Kept]:
    """Return what is kept by kind, `report` and `audit`; it reads all of it, slice by slice.

    Raises:
        StateError: It could not be read.
    """
    return {kind: _kept(state, query) for kind, query in _SLICES.items()}


def _kept(state: State, query: str) -> Kept:
    after = records = size_bytes = 0
    while True:
        with state.reading() as connection:
            last, count, size = connection.execute(query, (after, _SLICE)).fetchone()
        if not count:
            return Kept(records, size_bytes)
        after, records, size_bytes = last, records + count, size_bytes + size
