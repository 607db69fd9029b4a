"""A real worker process with an engine that does as it is told, for the supervisor's tests.

`command` runs it. The last message of a chat says what to
do; files in FOLDER, the *controls*, say what happens at load and when held requests go on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from sprat_agent.runtime.wire import Conversation, Load, Request
from sprat_agent.worker import serve
from sprat_agent.worker.engine import EngineError

from simulators.serial_engine import Finished, Generation, SerialEngine

FAIL_LOAD = "fail-load"  # contains: how many more loads fail
CRASH_LOAD = "crash-load"
HANG_LOAD = "hang-load"
GO_ON = "go-on"  # held requests end when this is there
UNJAILED = "unjailed"  # contains: what it says of its jail


class ScriptedModel:
    """Echoes, holds, crashes, hangs or fails; see `generate`."""

    def __init__(self, controls: Path) -> None:
        self._controls = controls

    def load(self, source: Load) -> int:
        """Load, unless a control says otherwise."""
        failures = self._controls / FAIL_LOAD
        if failures.exists() and (left := int(failures.read_text())) > 0:
            failures.write_text(str(left - 1))
            raise EngineError("load_failed", "told to fail")
        if (self._controls / CRASH_LOAD).exists():
            os.kill(os.getpid(), signal.SIGSEGV)
        if (self._controls / HANG_LOAD).exists():
            threading.Event().wait()
        return source.context

    def generate(self, request: Request) -> Generation:
        """Do what the last message says, or echo it."""
        assert isinstance(request.prompt, Conversation)
        order = request.prompt.messages[-1].content
        match order:
            case "crash":
                print("the last words", file=sys.stderr, flush=True)  # noqa: T201 - its last words
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "freeze":  # the whole process, and with it the answers to pings
                os.kill(os.getpid(), signal.SIGSTOP)
                threading.Event().wait()  # it stops a moment later
            case "fail":
                raise ValueError("told to fail")
            case "refuse":
                raise EngineError("context_length_exceeded", "told to refuse")
            case "invent":
                raise EngineError("a code\nof its own", "\x1b[2J" + "x" * 9999)
            case "hold":
                yield "held"
                while not (self._controls / GO_ON).exists():
                    yield ""
                    time.sleep(0.005)
            case _:
                for word in order.split():
                    yield f"{word} "
        return Finished("stop", 1, len(order.split()), 0.001, 0.001)

    def close(self) -> None:
        """Nothing to free."""


def command(controls: Path) -> tuple[str, ...]:
    """Return what runs this worker."""
    tests = Path(__file__).resolve().parent.parent
    code = (
        f"import sys; sys.path.insert(0, {str(tests)!r});"
        " from simulators import scripted_worker; scripted_worker.main()"
    )
    return (sys.executable, "-c", code, str(controls))


def main() -> None:
    """Be the worker."""
    controls = Path(sys.argv[1])
    serve.run(lambda: SerialEngine(ScriptedModel(controls)), jail=lambda _: _jail(controls))


def _jail(controls: Path) -> tuple[str, ...]:
    """Enter none: the controls are files, and the worker ends itself."""
    told = controls / UNJAILED
    return (told.read_text(),) if told.exists() else ()
