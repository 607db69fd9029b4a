"""How many threads decode, by what else the processors do. Pure.

Decoding is bound by memory: on a two-core machine one thread decoded a 0.6 B model as fast as two
(measured November 2026). The second thread only helps while nobody else wants its processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BUSY: Final = 0.25  # of one processor, used by others


@dataclass(frozen=True)
class Ticks:
    """Processor time since the start of the machine; any unit, the same for all."""

    total: int  # of all processors, idle time included
    busy: int
    ours: int  # of that, by our workers


def others_share(before: Ticks, now: Ticks, processors: int) -> float:
    """Return how many processors' worth of time others used between two looks."""
    total = now.total - before.total
    if total <= 0:
        return 0.0
    others = (now.busy - before.busy) - (now.ours - before.ours)
    return max(0.0, others / total * processors)


def decode_threads(most: int, others: float) -> int:
    """Return how many threads to decode with.

    Args:
        most: Threads that the engine has.
        others: Processors' worth of time that others use.
    """
    return 1 if others > BUSY else most


def ticks_of_machine(stat: str, ours: Sequence[str]) -> Ticks:
    """Read `/proc/stat` and the `/proc/PID/stat` of our workers (proc(5)).

    Raises:
        ValueError: One of them is not as proc(5) says.
    """
    first = stat.partition("\n")[0].split()
    if not first or first[0] != "cpu":
        raise ValueError(f"expected the line `cpu` first in /proc/stat, found {stat[:40]!r}")
    user, nice, system, idle, waiting, *others = (int(word) for word in first[1:9])
    busy = user + nice + system + sum(others)
    mine = 0
    for text in ours:
        fields = text.rpartition(")")[2].split()
        mine += int(fields[11]) + int(fields[12])  # utime and stime
    return Ticks(busy + idle + waiting, busy, mine)
