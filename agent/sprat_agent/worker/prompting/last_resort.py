"""What ends code that cannot be interrupted: the kernel, with the whole process.

One long call into C holds the interpreter's lock, so no other thread of Python's gets to say that
it is enough. A timer of the kernel on the thread's processor time does not need that lock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar, Final

_SIGEV_SIGNAL: Final = 0  # signal.h
_SIGEVENT_BYTES: Final = 64

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Event(ctypes.Structure):
    """struct sigevent, on 64 bits."""

    _fields_: ClassVar = [
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("kind", ctypes.c_int),
        ("rest", ctypes.c_char * (_SIGEVENT_BYTES - 16)),
    ]


class _Times(ctypes.Structure):
    """struct itimerspec: every, and for the first time after."""

    _fields_: ClassVar = [
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("after_s", ctypes.c_long),
        ("after_ns", ctypes.c_long),
    ]


@contextmanager
def killed_after(cpu_s: float) -> Generator[None]:
    """Have the process killed once this thread has taken so much processor time in here.

    Raises:
        OSError: The kernel has no timer for us.
    """
    timer = ctypes.c_void_p()
    event = _Event(signal=signal.SIGKILL, kind=_SIGEV_SIGNAL)
    _call("timer_create", time.CLOCK_THREAD_CPUTIME_ID, ctypes.byref(event), ctypes.byref(timer))
    try:
        whole, rest = divmod(round(cpu_s * 1e9), 10**9)
        times = _Times(after_s=whole, after_ns=rest)
        _call("timer_settime", timer, 0, ctypes.byref(times), None)
        yield
    finally:
        _call("timer_delete", timer)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
