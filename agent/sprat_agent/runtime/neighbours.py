"""What else the processors of this device do beside one worker."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sprat_agent.runtime.threads import Ticks, decode_threads, others_share, ticks_of_machine

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
        self._before = self._look()

    def decode_threads(self) -> int:
        """Return how many threads the worker is to decode with, by what happened since last time.

        Where that cannot be told, all of them.
        """
        before, self._before = self._before, self._look()
        if before is None or self._before is None:
            return self._threads
        others = others_share(before, self._before, self._processors)
        return decode_threads(self._threads, self._processors, others)

    def _look(self) -> Ticks | None:
        try:
            machine = self._machine.read_text(encoding="ascii")
            worker = self._worker.read_text(encoding="utf-8", errors="replace")
            return ticks_of_machine(machine, [worker])
        except (OSError, ValueError) as error:  # it is gone, or this is no Linux as we know it
            _LOG.debug("cannot tell what the processors do: %s", error)
            return None
