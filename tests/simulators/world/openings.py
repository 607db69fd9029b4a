"""When a maintenance window is open, as columns of milliseconds; `sprat_proto.windows` says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from sprat_proto import windows
from sprat_proto.windows import WindowSpec

from simulators.world.draws import Ints

BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)  # of every world
_MS: Final = timedelta(milliseconds=1)
_AHEAD_MS: Final = 14 * 86_400_000  # looked up at once
# Clocks of devices are wrong by less: what they say may lie before the world.
_BEFORE: Final = timedelta(days=8)


def ms(at: datetime) -> int:
    """Return a time as milliseconds since the world began."""
    return (at - BEGIN) // _MS


def moment(at_ms: int) -> datetime:
    """Return milliseconds since the world began as a time."""
    return BEGIN + at_ms * _MS


class Openings:
    """The stretches in which one window is open, in order, looked up as far as they are needed."""

    def __init__(self, spec: WindowSpec) -> None:
        """Follow a window.

        Raises:
            WindowError: It is none.
        """
        self._window = windows.parse(spec)
        self._known_until = BEGIN - _BEFORE
        self._opens: list[int] = []
        self._closes: list[int] = []
        self._arrays()

    def stretches(self, until_ms: int) -> list[tuple[int, int]]:
        """Return when it opens and closes, for all that opens from the beginning until then."""
        self._look_up(until_ms)
        both = zip(self._opens, self._closes, strict=True)
        return [(opens, closes) for opens, closes in both if closes > 0 and opens < until_ms]

    def inside(self, at_ms: Ints) -> Ints:
        """Return each time itself if it is open then, else when it opens next."""
        if not len(at_ms):
            return at_ms
        self._until(lambda: self._closes[-1] > int(at_ms.max()), int(at_ms.max()))
        place = np.searchsorted(self._ends, at_ms, side="right")
        return np.maximum(at_ms, self._begins[place])

    def spend(self, at_ms: Ints, work_ms: Ints) -> Ints:
        """Return when so much time has passed since then in which it was open."""
        if not len(at_ms):
            return at_ms
        begin = self.inside(at_ms)
        longest = int(work_ms.max())
        last = int(begin.max())
        self._until(lambda: self._open_after(last) > longest, last)
        place = np.searchsorted(self._ends, begin, side="right")
        done = self._spent[place] + (begin - self._begins[place]) + work_ms
        # The stretch in which that much has been open since the first.
        within = np.searchsorted(self._spent_after, done, side="left")
        return self._begins[within] + done - self._spent[within]

    def _open_after(self, at_ms: int) -> int:
        both = zip(self._opens, self._closes, strict=True)
        return sum(max(0, closes - max(opens, at_ms)) for opens, closes in both)

    def _until(self, is_enough: Callable[[], bool], from_ms: int) -> None:
        until = max(from_ms, 0)
        while not self._closes or not is_enough():
            until += _AHEAD_MS
            self._look_up(until)

    def _look_up(self, until_ms: int) -> None:
        until = moment(until_ms)
        if until <= self._known_until:
            return
        at = self._known_until
        while at <= until:
            opens = at if windows.is_open(self._window, at) else windows.next_open(self._window, at)
            if opens is None:
                raise ValueError(f"expected a window that opens, found {self._window.spec.cron!r}")
            closes = windows.closes_at(self._window, opens)
            if closes is None:
                raise RuntimeError(f"{self._window.spec} is not open when it opens")
            self._opens.append(ms(opens))
            self._closes.append(ms(closes))
            at = closes
        self._known_until = at
        self._arrays()

    def _arrays(self) -> None:
        self._begins = np.array(self._opens, dtype=np.int64)
        self._ends = np.array(self._closes, dtype=np.int64)
        lengths = self._ends - self._begins
        self._spent_after = np.cumsum(lengths)
        self._spent = self._spent_after - lengths


@dataclass(frozen=True)
class DeviceWindows:
    """What a device is told of windows; None: it may at any time."""

    download: Openings | None = None
    activate: Openings | None = None


AT_ANY_TIME: Final = DeviceWindows()
