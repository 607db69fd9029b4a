"""Measures the device once nothing else goes on, and gives way to whatever begins.

A measurement that was disturbed says nothing and is thrown away; the next quiet time is waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sprat_proto.fit import Profile
from sprat_proto.rates import Measured

from sprat_agent.errors import StateError
from sprat_agent.measuring import occasion, process
from sprat_agent.measuring.kept import KeptMeasurement
from sprat_agent.measuring.process import MeasuringError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """Seconds between looks and attempts."""

    quiet_s: float = 20.0  # nothing went on for so long
    look_s: float = 1.0
    give_way_s: float = 0.02  # between looks while it measures
    crowded_s: float = 600.0  # other programs are waited for no longer
    again_s: float = 3600.0  # after an attempt that failed, or where memory was short


@dataclass(frozen=True)
class Surroundings:
    """What else there is on the device, asked each time anew."""

    is_busy: Callable[[], bool]  # a model answers, loads or is proved
    has_work: Callable[[], bool]  # an execution is under way
    is_crowded: Callable[[], bool]  # other programs use the processors
    available: Callable[[], int]  # bytes of memory that programs may still take
    unspoken: Callable[[], int]  # bytes of the models' budget that no model takes


class Measuring:
    """The device's measurement: the kept one, or the one that is made when there is time."""

    def __init__(
        self,
        profile: Profile,
        engine: str,
        kept: KeptMeasurement,
        folder: Path,
        *,
        around: Surroundings,
        pace: Pace = Pace(),
        command: tuple[str, ...] = process.COMMAND,
    ) -> None:
        """Read what is kept.

        Args:
            profile: The device's hardware.
            engine: Library and version that models run with.
            kept: Where measurements are kept.
            folder: Where the child may have a folder to run in.
            around: What is given way to.
            pace: How long to wait for what.
            command: What runs the child.

        Raises:
            StateError: What is kept could not be read.
        """
        self.on_measured: Callable[[], None] = _nothing
        self._profile = profile
        self._basis = occasion.basis(profile, engine)
        self._kept = kept
        self._folder = folder
        self._around = around
        self._pace = pace
        self._command = command
        self._disturbed = asyncio.Event()
        self.measured = kept.find(self._basis)

    def give_way(self) -> None:
        """Something begins: end a measurement that is under way; call it in the event loop."""
        self._disturbed.set()

    async def run(self) -> None:
        """Return when there is a measurement of this device as it is now."""
        while self.measured is None:
            await self._quiet()
            size = occasion.model_bytes(self._around.available(), self._around.unspoken())
            if not size:
                await asyncio.sleep(self._pace.again_s)
                continue
            try:
                found = await self._undisturbed(size)
                if found is not None:
                    self._kept.keep(self._basis, found)
                    self.measured = found
                    self.on_measured()
            except (MeasuringError, StateError, OSError) as error:
                _LOG.warning("this device could not be measured: %s", error)
                await asyncio.sleep(self._pace.again_s)

    async def _quiet(self) -> None:
        """Wait until nothing has gone on for a while."""
        loop, around = asyncio.get_running_loop(), self._around
        begun = since = loop.time()
        while loop.time() - since < self._pace.quiet_s:
            await asyncio.sleep(self._pace.look_s)
            is_early = loop.time() - begun < self._pace.crowded_s
            if (
                self._disturbed.is_set()
                or around.is_busy()
                or around.has_work()
                or (is_early and around.is_crowded())
            ):
                self._disturbed.clear()
                since = loop.time()

    async def _undisturbed(self, size: int) -> Measured | None:
        """Measure; None: something began meanwhile, or was about to."""
        profile = self._profile
        terms = process.Terms(profile.cores, size, profile.cpu_quota_milli, self._command)
        running = asyncio.create_task(process.measure(terms, self._folder), name="measurement")
        try:
            while not running.done():
                if self._disturbed.is_set() or self._around.is_busy():
                    return None
                await asyncio.wait([running], timeout=self._pace.give_way_s)
            return running.result()
        finally:
            running.cancel()
            await asyncio.wait([running])


def _nothing() -> None:
    """Nobody waits for it."""
