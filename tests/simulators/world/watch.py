"""What must hold in a world at each moment; the first breach ends the run. Pure but for itself.

The watch believes nobody: it sees only what is started and ended on devices, and keeps its own
columns. It is told before the world acts on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from sprat_proto import windows
from sprat_proto.states import RolloutState
from sprat_proto.windows import Window

from simulators.world.draws import Ints

_OVER: Final = (RolloutState.STOPPING, RolloutState.ROLLING_BACK, RolloutState.FINISHED)
_NEVER: Final = -1


class BreachError(AssertionError):
    """Something happened that never may."""


@dataclass(frozen=True)
class Bounds:
    """What the strategy of a rollout promises; 0: no limit."""

    # None: it waits for windows, or for devices, and no clock of ours says how long.
    execution_ms: int | None
    late_ms: int  # how much later than its deadline an end may be decided: one tick
    max_in_progress: int = 0
    max_down_per_site: int = 0


class OneAtATime:
    """Sees over all rollouts that no device has two things under way, and heeds its penalty.

    Attributes:
        most_active: How many devices were at work at once, at most.
    """

    def __init__(self, count: int, replay: str) -> None:
        """Watch so many devices; `replay` is the line."""
        self._by = np.full(count, _NEVER, dtype=np.int64)
        self._penalty_ms = np.full(count, _NEVER, dtype=np.int64)
        self._active = 0
        self._replay = replay
        self.most_active = 0

    def started(self, devices: Ints, rollout: int, at_ms: int, *, is_way_back: bool) -> None:
        """A rollout gave work to devices.

        Raises:
            BreachError: One has some of any rollout, or is to be left alone.
        """
        busy = devices[self._by[devices] != _NEVER]
        if len(busy):
            other = int(self._by[busy[0]])
            self._breach(f"device {busy[0]} has work of rollout {other} and {rollout}", at_ms)
        early = devices[self._penalty_ms[devices] > at_ms]
        if len(early) and not is_way_back:
            until = int(self._penalty_ms[early[0]]) / 1000
            self._breach(f"device {early[0]} was to be left alone until {until:.1f} s", at_ms)
        self._by[devices] = rollout
        self._active += len(devices)
        self.most_active = max(self.most_active, self._active)

    def ended(self, devices: Ints) -> None:
        """Their work ended."""
        self._by[devices] = _NEVER
        self._active -= len(devices)

    def penalised(self, devices: Ints, until_ms: int) -> None:
        """No rollout may start on these before that time."""
        self._penalty_ms[devices] = until_ms

    def penalties(self) -> int:
        """Return how many devices were ever penalised."""
        return int((self._penalty_ms != _NEVER).sum())

    def _breach(self, sentence: str, at_ms: int) -> None:
        raise BreachError(f"at {at_ms / 1000:.1f} s: {sentence}; again with: {self._replay}")


class Watch:
    """Sees every start and every end.

    Attributes:
        starts: How many there were.
        most_active: How many were active at once, at most.
    """

    def __init__(
        self, count: int, site: Ints, bounds: Bounds, replay: str, *, sites: int | None = None
    ) -> None:
        """Watch `count` devices at their sites; each sentence ends with the line `replay`.

        Args:
            count: How many executions there may be; here each is of another device.
            site: Of each; of those that join later it is written then.
            bounds: What must hold.
            replay: The line.
            sites: How many there are; None: as `site` has it.
        """
        self._bounds = bounds
        self._site = site
        self._replay = replay
        self._since = np.full(count, _NEVER, dtype=np.int64)
        of_site = int(site.max()) + 1 if count else 0
        self._sites = of_site if sites is None else sites
        self._down = np.zeros(self._sites, dtype=np.int64)
        self._active = 0
        self._aborted_at: int | None = None
        self._paused = False
        self.starts = 0
        self.most_active = 0

    def aborted(self, at_ms: int) -> None:
        """An abort was decided: nothing starts any more."""
        self._aborted_at = at_ms

    def paused(self) -> None:
        """The rollout was paused: nothing starts until it is resumed."""
        self._paused = True

    def resumed(self) -> None:
        """The rollout goes on."""
        self._paused = False

    def turned(self, state: RolloutState, at_ms: int) -> None:
        """The rollout came into a state: only a RUNNING one starts anything."""
        if state is RolloutState.RUNNING:
            self.resumed()
        elif state is RolloutState.PAUSED:
            self.paused()
        elif state in _OVER:
            self.aborted(at_ms)

    def started(self, devices: Ints, at_ms: int, *, is_way_back: bool = False) -> None:
        """Work was given to devices.

        Raises:
            BreachError: It never may have been.
        """
        if not len(devices):
            return
        if not is_way_back:
            self._refuse_when_still(devices, at_ms)
        repeated = len(devices) - len(np.unique(devices))
        busy = devices[self._since[devices] != _NEVER]
        if repeated or len(busy):
            which = busy[0] if len(busy) else devices[0]
            self._breach(f"device {which} was given work while it has some", at_ms)
        self._since[devices] = at_ms
        self._down += np.bincount(self._site[devices], minlength=self._sites)
        self._active += len(devices)
        self.starts += len(devices)
        self.most_active = max(self.most_active, self._active)
        if not is_way_back:
            self._refuse_over_limits(at_ms)

    def ended(self, devices: Ints, at_ms: int) -> None:
        """Work of devices ended, one way or another.

        Raises:
            BreachError: They had none, or had it for longer than the deadline.
        """
        if not len(devices):
            return
        since = self._since[devices]
        idle = devices[since == _NEVER]
        if len(idle) or len(devices) != len(np.unique(devices)):
            which = idle[0] if len(idle) else devices[0]
            self._breach(f"work of device {which} ended twice", at_ms)
        self._refuse_too_long(devices, at_ms)
        self._since[devices] = _NEVER
        self._down -= np.bincount(self._site[devices], minlength=self._sites)
        self._active -= len(devices)

    def installs(self, device: int, at: datetime, window: Window | None, at_ms: int) -> None:
        """A device begins to bring in what it was given, at this time of its own clock.

        Raises:
            BreachError: Its window is closed.
        """
        if window is not None and not windows.is_open(window, at):
            self._breach(f"device {device} activates at {at} by its clock: it may not", at_ms)

    def at_rest(self, at_ms: int, left: Mapping[str, int]) -> None:
        """Nothing will happen any more.

        Args:
            at_ms: Now.
            left: How many executions are in which state.

        Raises:
            BreachError: Work is still under way, or executions are not final.
        """
        if self._active:
            which = int(np.argmax(self._since != _NEVER))
            self._breach(f"{self._active} devices are at work for ever, as {which}", at_ms)
        unfinished = {name: left.get(name, 0) for name in ("QUEUED", "IN_PROGRESS")}
        if any(unfinished.values()):
            self._breach(f"executions never end: {unfinished}", at_ms)

    def _refuse_when_still(self, devices: Ints, at_ms: int) -> None:
        if self._aborted_at is not None:
            ago = (at_ms - self._aborted_at) / 1000
            self._breach(f"{len(devices)} devices started {ago:.1f} s after the abort", at_ms)
        if self._paused:
            self._breach(f"{len(devices)} devices started while the rollout is paused", at_ms)

    def _refuse_too_long(self, devices: Ints, at_ms: int) -> None:
        since, allowed_ms = self._since[devices], self._bounds.execution_ms
        most = int((at_ms - since).max())
        if allowed_ms is not None and most > allowed_ms + self._bounds.late_ms:
            which = devices[int(np.argmin(since))]
            words = f"was at work for {most / 1000:.1f} s of {allowed_ms / 1000:.0f} s"
            self._breach(f"device {which} {words}", at_ms)

    def _refuse_over_limits(self, at_ms: int) -> None:
        most = self._bounds.max_in_progress
        if most and self._active > most:
            self._breach(f"{self._active} devices are at work, {most} may be", at_ms)
        per_site = self._bounds.max_down_per_site
        if per_site and int(self._down.max()) > per_site:
            site, down = int(np.argmax(self._down)), int(self._down.max())
            self._breach(f"{down} devices of site {site} are down, {per_site} may be", at_ms)

    def _breach(self, sentence: str, at_ms: int) -> None:
        raise BreachError(f"at {at_ms / 1000:.1f} s: {sentence}; again with: {self._replay}")
