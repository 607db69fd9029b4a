"""Stop strings in a stream of text: nothing of them, nor after them, is let through. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Passes text on, holding back what may be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped_by = ""  # the stop string that was found

    @property
    def is_stopped(self) -> bool:
        """A stop string was found."""
        return bool(self.stopped_by)

    @property
    def held(self) -> str:
        """What was not let through: what is doubtful, or all from the stop string on."""
        return self._held

    def feed(self, text: str) -> str:
        """Return what may be shown now; nothing once a stop string was found."""
        if self.is_stopped:
            return ""
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.stopped_by = min(found, key=lambda one: one[0])
            return self._release(at)
        return self._release(len(self._held) - self._doubtful())

    def flush(self) -> str:
        """Return what was held back: the text has ended and no stop string came of it."""
        return "" if self.is_stopped else self._release(len(self._held))

    def _release(self, count: int) -> str:
        shown, self._held = self._held[:count], self._held[count:]
        return shown

    def _doubtful(self) -> int:
        """Return the length of the longest end of the text that a stop string begins with."""
        longest = max((len(stop) for stop in self._stops), default=0) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
