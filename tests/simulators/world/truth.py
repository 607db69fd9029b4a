"""What devices of a world really run, which the controller knows only by what they tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.world.columns import NEVER
from simulators.world.draws import Ints
from simulators.world.known import BEFORE


@dataclass(frozen=True)
class Fallbacks:
    """Silent fallbacks that happened, held against those that the controller concluded.

    Attributes:
        injected: That happened.
        noticed: Of these: the controller concluded it of the right device.
        overtaken: Of these: the device was given other work, or taken back, before it told.
        false: That the controller concluded, and that never happened.
    """

    injected: int = 0
    noticed: int = 0
    overtaken: int = 0
    false: int = 0

    @property
    def missed(self) -> int:
        """Happened, and nobody ever concluded it."""
        return self.injected - self.noticed - self.overtaken


NO_FALLBACKS: Final = Fallbacks()


class Truth:
    """One row for each device.

    Attributes:
        running: The digest that answers.
        fell_ms: When it last fell back without a word; NEVER: it did not.
        noticed_ms: When the controller last concluded that it did; NEVER: it did not.
    """

    def __init__(self, count: int) -> None:
        """Begin with devices that run what they ran before the world."""
        self.running = np.full(count, BEFORE, dtype=np.int64)
        self.fell_ms = np.full(count, NEVER, dtype=np.int64)
        self.noticed_ms = np.full(count, NEVER, dtype=np.int64)
        self._ended = 0
        self._noticed = 0
        self._injected = 0
        self._false = 0

    def proves(self, devices: Ints, digest: int) -> None:
        """Devices proved a digest, which answers now."""
        self.running[devices] = digest

    def falls_back(self, devices: Ints, to: Ints, at_ms: int) -> None:
        """Devices run something else from now on, and say nothing."""
        self.running[devices] = to
        self.fell_ms[devices] = at_ms
        self.noticed_ms[devices] = NEVER
        self._injected += len(devices)

    def moves_on(self, devices: Ints) -> None:
        """Devices were given other work: a fallback that nobody saw yet will not be seen."""
        fell = devices[self.fell_ms[devices] != NEVER]
        self._ended += int((self.noticed_ms[fell] == NEVER).sum())
        self.fell_ms[fell] = NEVER

    def concluded(self, devices: Ints, at_ms: int) -> None:
        """The controller says that these fell back, each for the first time since they proved."""
        really = (self.fell_ms[devices] != NEVER) & (self.noticed_ms[devices] == NEVER)
        self.noticed_ms[devices[really]] = at_ms
        self._noticed += int(really.sum())
        self._false += int((~really).sum())

    def fallbacks(self) -> Fallbacks:
        """Return how what was concluded stands to what happened."""
        return Fallbacks(self._injected, self._noticed, self._ended, self._false)
