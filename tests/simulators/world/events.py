"""What will happen when: events of devices as columns, in buckets of time. Pure.

A heap of a million Python objects would take most of a run; here events that fall into one tick
lie together and come out together, in order of time, then of device.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.world.draws import Ints


@dataclass(frozen=True)
class Events:
    """Columns of equal length."""

    at_ms: Ints
    device: Ints
    what: Ints  # the caller's own numbers
    number: Ints  # of the work that it belongs to: what is not current any more is ignored

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.at_ms)


class Calendar:
    """Events to come."""

    def __init__(self, tick_ms: int) -> None:
        """Keep events in buckets of `tick_ms`."""
        if tick_ms < 1:
            raise ValueError(f"a tick is at least 1 ms, not {tick_ms}")
        self._tick_ms = tick_ms
        self._buckets: dict[int, list[Events]] = {}
        self._order: list[int] = []

    def add(self, events: Events) -> None:
        """Take events, in any order."""
        if not len(events):
            return
        ticks = events.at_ms // self._tick_ms
        order = np.argsort(ticks, kind="stable")
        found, starts = np.unique(ticks[order], return_index=True)
        ends = [*starts[1:].tolist(), len(order)]
        for tick, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True):
            if tick not in self._buckets:
                self._buckets[tick] = []
                heapq.heappush(self._order, tick)
            self._buckets[tick].append(_taken(events, order[start:end]))

    def next_ms(self) -> int | None:
        """Return the end of the first tick in which something happens; None: nothing will."""
        return (self._order[0] + 1) * self._tick_ms if self._order else None

    def first_ms(self) -> int | None:
        """Return the beginning of the first tick in which something happens."""
        return self._order[0] * self._tick_ms if self._order else None

    def pop(self) -> Events:
        """Take out the events of the first tick, ordered by time, then by device.

        Raises:
            IndexError: Nothing will happen.
        """
        parts = self._buckets.pop(heapq.heappop(self._order))
        together = Events(
            at_ms=np.concatenate([one.at_ms for one in parts]),
            device=np.concatenate([one.device for one in parts]),
            what=np.concatenate([one.what for one in parts]),
            number=np.concatenate([one.number for one in parts]),
        )
        return _taken(together, np.lexsort((together.device, together.at_ms)))


def _taken(events: Events, at: NDArray[np.intp]) -> Events:
    return Events(events.at_ms[at], events.device[at], events.what[at], events.number[at])
