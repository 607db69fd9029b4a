"""The process around one engine, which the agent starts with `DESCRIPTOR PARENT`.

It owns nothing but the memory of one model: it is made to be killed. It dies with the agent, is the
first to die when memory runs out, and can gain no privileges. Once told what to load, it enters the
jail: a model file is a program's input that has taken programs over. The main thread reads messages
and answers pings; the engine works in threads of its own.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from sprat_agent.runtime.wire import (
    AgentMessage,
    Answer,
    Answers,
    Cancel,
    Count,
    Embed,
    Generate,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Score,
    UseThreads,
    WorkerEnd,
)
from sprat_agent.worker.engine import Engine, EngineError
from sprat_agent.worker.jail.enter import enter

_LOG = logging.getLogger(__name__)
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS: Final = 38
_OOM_SCORE: Final = 800  # of 1000: before the agent, and before most of the device
# What libraries ask of the machine: llama.cpp its cores, templates the time of day, and a module
# that is imported at its first use the system's libraries.
MACHINE: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"),
    *("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/sys/devices/system/node"),
    *("/etc/localtime", "/dev/null", "/dev/urandom"),
)

Jail: TypeAlias = Callable[[Load], tuple[str, ...]]


def for_model(source: Load) -> tuple[str, ...]:
    """Enter the jail in which this model can be loaded; see `enter`.

    What is open may be opened again: llama.cpp opens the model by the link to its descriptor. The
    folders of modules stay, as libraries import some of theirs only when they are needed.
    """
    modules = [Path(entry) for entry in sys.path if entry]
    has_prefixes = source.prefix_file >= 0
    return enter(
        readable=[*_inherited(), *modules, *map(Path, MACHINE)],
        memory_bytes=source.memory_bytes,
        written=[_link(source.prefix_file)] if has_prefixes else [],
        written_bytes=source.prefix_bytes if has_prefixes else 0,
    )


def _inherited() -> list[Path]:
    """Return links to the files that are open: the model's, and adapters'."""
    return [link for link in Path("/proc/self/fd").iterdir() if link.is_file()]


def _link(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")


def run(make_engine: Callable[[], Engine], jail: Jail = for_model) -> None:
    """Be a worker until the agent closes its end; the last two arguments say which.

    Args:
        make_engine: Called once; imports of the engine's libraries belong in it, threads do not.
        jail: Entered before the model is loaded; returns the parts that this kernel lacks.
    """
    descriptor, parent = (int(word) for word in sys.argv[-2:])
    threading.excepthook = _end
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    confine(parent)
    end = WorkerEnd(socket.socket(fileno=descriptor))
    with suppress(BrokenPipeError):  # the agent went away in the middle of an answer
        serve(end, make_engine(), jail)
    # Without the interpreter's and the C library's clean-up: the kernel frees memory faster.
    sys.stderr.flush()
    os._exit(0)


def _end(failed: threading.ExceptHookArgs) -> None:
    """End the process with the engine's thread, without which nobody is answered any more."""
    threading.__excepthook__(failed)
    sys.stderr.flush()
    os._exit(1)


def confine(parent: int) -> None:
    """Tie this process's life to its parent's, and make it the first to go when memory runs out."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot tie the worker's life to the agent's")
    if os.getppid() != parent:  # it died before we asked
        os._exit(0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # without /proc the kernel chooses by size, which finds us as well
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def serve(end: WorkerEnd, engine: Engine, jail: Jail) -> None:
    """Obey messages until the agent closes its end."""
    while (message := end.receive()) is not None:
        _obey(message, end, engine, jail)


def _obey(message: AgentMessage, end: WorkerEnd, engine: Engine, jail: Jail) -> None:
    match message:
        case Load():
            lacking = jail(message)
            answer = _load(engine, message, end)
            if isinstance(answer, Loaded):
                answer = msgspec.structs.replace(answer, unjailed=lacking)
            end.send(answer)
        case Generate(request_id, request):
            engine.submit(request_id, request)
        case Embed():
            engine.embed(message)
        case Count():
            engine.count(message)
        case Score():
            engine.score(message)
        case Cancel(request_id):
            engine.cancel(request_id)
        case UseThreads(count):
            engine.use_threads(count)
        case Ping(number):
            end.send(Pong(number, engine.stalled_s(), engine.figures()))


def _load(engine: Engine, source: Load, end: WorkerEnd) -> Loaded | LoadFailed:
    def sink(answers: Sequence[Answer]) -> None:
        with suppress(BrokenPipeError):  # nobody reads any more; the main thread sees the end
            end.send(Answers(tuple(answers)))

    try:
        return engine.load(source, sink)
    except EngineError as error:
        return LoadFailed(error.message)
    except Exception as error:  # noqa: BLE001 - the agent is told, and ends this process
        _LOG.exception("the engine failed to load the model")
        return LoadFailed(f"the engine failed to load the model: {error}")
