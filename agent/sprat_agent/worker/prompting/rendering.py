"""Running a chat template within bounds: a signed one is a program all the same.

jinja2's sandbox keeps it from the process; this keeps it from going on for ever. Python cannot stop
one long call into C, for example `10 ** (10 ** 9)`: that, the kernel ends together with the worker,
which the agent counts as a crash.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import os
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
    _WATCHER.begin(renderer, clock, time.clock_gettime(clock) + CPU_S)
    try:
        yield
    finally:
        _WATCHER.end(renderer)


class _Watcher:
    """A thread that ends what takes too long: one for all, as each more takes address space.

    A worker may have little of that, and requests come faster than threads end on a busy machine.
    """

    def __init__(self) -> None:
        self._deciding = threading.Lock()  # held while it is decided whom to end
        self._ends: dict[int, tuple[int, float]] = {}  # clock and its time, by thread
        self._begun = threading.Event()
        self._runs_in = 0  # the process; a fork leaves the thread behind

    def begin(self, renderer: int, clock: int, ends: float) -> None:
        """Watch a thread from now on."""
        with self._deciding:
            self._ends[renderer] = clock, ends
            self._begun.set()
            if self._runs_in == os.getpid():
                return
        # Not threading.Thread: its `start` waits for ever where the thread begins without memory. A
        # watcher that does not come leaves the last resort, and is asked for again.
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(self._run, ())

    def end(self, renderer: int) -> None:
        """Watch it no more; nothing is raised in it from now on."""
        with self._deciding:
            self._ends.pop(renderer, None)
        _raise_in(renderer, None)  # takes back what was not raised yet

    def _run(self) -> None:
        with self._deciding:
            if self._runs_in == os.getpid():
                return  # asked for again before the first one had begun
            self._runs_in = os.getpid()
        try:
            while True:
                self._begun.wait()
                # What is rendered may take all memory; this thread must outlive that.
                with contextlib.suppress(MemoryError):
                    self._look()
                time.sleep(_LOOK_S)
        finally:
            self._runs_in = 0

    def _look(self) -> None:
        with self._deciding:
            if not self._ends:
                self._begun.clear()
            for renderer, (clock, ends) in tuple(self._ends.items()):
                if time.clock_gettime(clock) > ends:
                    del self._ends[renderer]
                    _raise_in(renderer, _OutOfTimeError)


_WATCHER: Final = _Watcher()


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
