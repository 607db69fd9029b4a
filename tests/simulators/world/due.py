"""Which rows are due by a column of times, and when the next is: nothing is ever searched for."""

from __future__ import annotations

import numpy as np

from simulators.world.draws import Ints
from simulators.world.events import Calendar, Events


class Due:
    """Rows by the time that their column says; what it no longer says is left out when its time
    comes, so that a column may change without telling.
    """

    def __init__(self, column: Ints, tick_ms: int) -> None:
        """Follow a column of milliseconds; rows of one tick lie together."""
        self._column = column
        self._calendar = Calendar(tick_ms)
        # The row that is next, and when: as long as its column says so it need not be looked for.
        self._next: tuple[int, int] | None = None

    def add(self, rows: Ints) -> None:
        """Follow these rows; those that were followed before may be among them."""
        if not len(rows):
            return
        at, nothing = self._column[rows], np.zeros_like(rows)
        self._calendar.add(Events(at, rows, nothing, nothing))
        if self._next is not None and at.min() < self._next[1]:
            self._next = None

    def pop(self, now_ms: int) -> Ints:
        """Take out the rows that are due, in order, each once."""
        if self._next is not None and self._next[1] <= now_ms:
            self._next = None
        found: list[Ints] = []
        while (first := self._calendar.first_ms()) is not None and first <= now_ms:
            rows = self._valid(self._calendar.pop())
            is_due = self._column[rows] <= now_ms
            found.append(rows[is_due])
            if not is_due.all():
                self.add(rows[~is_due])
                break
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    def next_ms(self) -> int | None:
        """Return when the next row is due; None: none ever is."""
        if self._next is not None and self._column[self._next[0]] == self._next[1]:
            return self._next[1]
        self._next = None
        while self._calendar.first_ms() is not None:
            rows = self._valid(self._calendar.pop())
            if len(rows):
                self.add(rows)
                # Events come out in order of time: so do the rows.
                self._next = int(rows[0]), int(self._column[rows[0]])
                return self._next[1]
        return None

    def _valid(self, events: Events) -> Ints:
        return events.device[self._column[events.device] == events.at_ms]
