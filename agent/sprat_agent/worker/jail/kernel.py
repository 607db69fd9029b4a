"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any, Final

_CAPABILITY_VERSION: Final = 0x20080522  # the third, linux/capability.h

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


def drop_capabilities() -> None:
    """Give up what root may do beyond others, for the thread that asks; see capset(2).

    Raises:
        OSError: The kernel refuses.
    """
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0), 8)
    nothing = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: twice 32 bits
    _checked(_libc.capset(header, nothing))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
