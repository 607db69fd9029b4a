"""How many threads compute, by what else the processors do. Pure.

Threads of an engine wait for the slowest of them after each operation, so a thread that shares its
processor costs more than it brings. On a two-core machine a 0.6 B model in Q4_0 decoded 26.8
tokens a second with two threads and 17.8 with one; beside a neighbour that used half a processor
21.9 and 19.1, beside one that used a whole one 9.9 and 17.1. Prompts and several answers at once
gain more by a second thread (123 and 72 tokens of prompts a second; 103 and 69 beside half a
processor) and lose as much on a busy machine: beside three neighbours 49 and 47, and 14 and 21 of
four answers (medians of 3 or 4, measured November 2026).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SHARED: Final = 0.7  # of a processor: a thread is worth having beside others that use so much


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


def usable_threads(most: int, processors: int, others: float) -> int:
    """Return how many threads to compute with: one for each processor that is free enough.

    Args:
        most: Threads that the engine has.
        processors: Of the machine.
        others: Processors' worth of time that others use.
    """
    return max(1, min(most, math.floor(processors - others + SHARED)))


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
