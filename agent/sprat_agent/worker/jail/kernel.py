"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

_libc: Final = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: Any) -> int:
    """Return what the call with this number does; ints fill a register each.

    Raises:
        OSError: The kernel refuses, or does not know the call (ENOSYS).
    """
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    return _checked(result)


def prctl(option: int, value: int) -> None:
    """Change something of this process.

    Raises:
        OSError: The kernel refuses.
    """
    _checked(_libc.prctl(option, *(ctypes.c_ulong(word) for word in (value, 0, 0, 0))))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
