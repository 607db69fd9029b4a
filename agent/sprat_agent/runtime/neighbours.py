"""What else the processors of this device do beside one worker."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sprat_agent.runtime.threads import Ticks, others_share, ticks_of_machine, usable_threads

_LOG = logging.getLogger(__name__)


class Neighbours:
    """Looks at the machine now and then; other workers of ours count as neighbours too."""

    def __init__(
        self, pid: int, threads: int, *, proc: Path = Path("/proc"), processors: int | None = None
    ) -> None:
        """Look for the first time.

        Args:
            pid: The worker's process id.
            threads: How many it has.
            proc: Where the proc file system is.
            processors: Of the machine; by default, what it says itself.
        """
        self._threads = threads
        self._processors = processors or os.cpu_count() or threads
        self._machine = proc / "stat"
        self._worker = proc / str(pid) / "stat"
        self.look()

    def look(self) -> None:
        """Forget what happened until now."""
        self._before = self._seen()

    def usable_threads(self) -> int:
        """Return how many threads are to compute, by what happened since the last look.

        Where that cannot be told, all of them.
        """
        before = self._before
        self.look()
        if before is None or self._before is None:
            return self._threads
        others = others_share(before, self._before, self._processors)
        return usable_threads(self._threads, self._processors, others)

    def _seen(self) -> Ticks | None:
        try:
            machine = self._machine.read_text(encoding="ascii")
            worker = self._worker.read_text(encoding="utf-8", errors="replace")
            return ticks_of_machine(machine, [worker])
        except (OSError, ValueError) as error:  # it is gone, or this is no Linux as we know it
            _LOG.debug("cannot tell what the processors do: %s", error)
            return None


async def regulate(
    neighbours: Neighbours, busy: asyncio.Event, interval_s: float, use: Callable[[int], None]
) -> NoReturn:
    """Have a worker leave processors to others, by what they took while it answered.

    What they did before the first request says little: a machine's work comes in bursts.

    Args:
        neighbours: Looks at the machine.
        busy: Set while the worker has something to do.
        interval_s: From one look to the next.
        use: Called with the number of threads to use from now on, when it changes.
    """
    threads = 0
    while True:
        await busy.wait()
        neighbours.look()
        while busy.is_set():
            await asyncio.sleep(interval_s)
            before, threads = threads, neighbours.usable_threads()
            if threads != before:
                use(threads)
