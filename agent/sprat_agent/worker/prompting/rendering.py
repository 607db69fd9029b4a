"""Running a chat template within bounds: a signed one is a program all the same.

jinja2's sandbox keeps it from the process; this keeps it from going on for ever. Python cannot stop
one long call into C, for example `10 ** (10 ** 9)`: that, the kernel ends together with the worker,
which the agent counts as a crash.
"""

from __future__ import annotations

import _thread
import ctypes
import resource
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeVar

from sprat_agent.worker.jail.address_space import address_space
from sprat_agent.worker.prompting.last_resort import killed_after

CPU_S: Final = 1.0
MEMORY_BYTES: Final = 256 << 20  # beyond what the worker has
MAX_PROMPT: Final = 4 << 20  # characters; the longest contexts in use take an eighth
KILL_CPU_S: Final = 1.5  # of this thread; the whole worker goes
_LOOK_S: Final = 0.1

Result = TypeVar("Result")


class OverrunError(Exception):
    """The template took more than it may; the message is one sentence."""


class _OutOfTimeError(Exception):
    """Raised in the thread that renders, by the one that watches it."""


def bounded(run: Callable[[], Result]) -> Result:
    """Return what `run` returns. Only for a thread beside which nothing else needs memory.

    Raises:
        OverrunError: It took more processor time or memory than it may.
    """
    try:
        with killed_after(KILL_CPU_S), _time(), _memory():
            return run()
    except _OutOfTimeError as error:
        raise OverrunError(f"it took more than {CPU_S:.0f} s") from error
    except MemoryError as error:
        most = f"{MEMORY_BYTES >> 20} MiB of memory"
        message = f"it took more than {most}, or all that the worker may still have"
        raise OverrunError(message) from error


@contextmanager
def _time() -> Generator[None]:
    """Have another thread raise in this one; tracing would do it too, at 25 times the cost."""
    renderer = threading.get_ident()
    clock = time.pthread_getcpuclockid(renderer)
    ends = time.clock_gettime(clock) + CPU_S
    over = threading.Event()
    deciding = threading.Lock()  # held while it is decided, after which the watcher does nothing

    def watch() -> None:
        while not over.wait(_LOOK_S):
            with deciding:
                if not over.is_set() and time.clock_gettime(clock) > ends:
                    _raise_in(renderer, _OutOfTimeError)
                    return

    # Not threading.Thread: its `start` waits for ever where the thread begins without memory. A
    # watcher that does not come leaves the last resort.
    _thread.start_new_thread(watch, ())
    try:
        yield
    finally:
        with deciding:
            over.set()
        _raise_in(renderer, None)  # takes back what was not raised yet


def _raise_in(thread: int, error: type[Exception] | None) -> None:
    what = ctypes.py_object(error) if error else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


@contextmanager
def _memory() -> Generator[None]:
    """Let allocations fail that go beyond what the process has by more than it may."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    most = address_space() + MEMORY_BYTES
    if limits[0] != resource.RLIM_INFINITY:
        most = min(most, limits[0])
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
