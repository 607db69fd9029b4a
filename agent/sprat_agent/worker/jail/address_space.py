"""How much address space this process has: what RLIMIT_AS is compared with."""

from __future__ import annotations

import functools
import os
import resource
from typing import Final

_LINE: Final = 256  # bytes; seven decimal numbers


def address_space() -> int:
    """Return it in bytes; inside the jail too, if it was asked once before."""
    pages = os.pread(_statm(), _LINE, 0).split()[0]
    return int(pages) * resource.getpagesize()


@functools.cache
def _statm() -> int:
    """Open it for good: in the jail, /proc is out of reach."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
