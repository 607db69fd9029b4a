"""The real, jailed worker, with releases whose first token ends it as a fault of llama.cpp would.

Which ones, their chat templates say.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sprat_agent.runtime.wire import Load
from sprat_agent.worker import serve
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.engine import Engine

ALWAYS: Final = "{# crashes at the first token #}"
IF_LONG: Final = "{# crashes at the first token after a long prompt #}"
LONG_TOKENS: Final = 64  # in one step


def command() -> tuple[str, ...]:
    """Return what runs this worker."""
    tests = Path(__file__).resolve().parent.parent
    code = (
        f"import sys; sys.path.insert(0, {str(tests)!r});"
        " from simulators import crashing_worker; crashing_worker.main()"
    )
    return (sys.executable, "-P", "-c", code)


def _engine() -> Engine:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in `sprat_agent.worker.__main__`
    from sprat_agent.worker.batching.scheduler import Scheduler  # noqa: PLC0415
    from sprat_agent.worker.llama import LlamaBackend  # noqa: PLC0415

    class CrashingBackend(LlamaBackend):
        """Reads what is at address 0 where it is to compute."""

        def load(self, source: Load) -> None:
            self._most = sys.maxsize
            if ALWAYS in source.template:
                self._most = 0
            elif IF_LONG in source.template:
                self._most = LONG_TOKENS
            super().load(source)

        def decode(self, runs: Sequence[Run]) -> None:
            if sum(len(run.tokens) for run in runs) > self._most:
                ctypes.string_at(0)
            super().decode(runs)

    return Scheduler(CrashingBackend())


def main() -> None:
    """Be the worker."""
    serve.run(_engine)
