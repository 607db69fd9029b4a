"""seccomp: system calls that no model needs fail with EPERM, in all threads of the process.

The filter is a program in classic BPF over the number of a call and its arguments. See seccomp(2)
and linux/filter.h. Where other processes would come from, only threads may.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from sprat_agent.worker.jail import calls, kernel
from sprat_agent.worker.jail.calls import Call

Step: TypeAlias = tuple[int, int, int, int]  # struct sock_filter: code, jt, jf, k

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_NUMBER_AT: Final = 0  # in struct seccomp_data
_ARCHITECTURE_AT: Final = 4
_ARGUMENTS_AT: Final = 16  # eight bytes each, the lower half first on both architectures

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000  # the process
ERROR: Final = 0x00050000  # plus the error's number
_REFUSE: Final = ERROR | errno.EPERM
_UNKNOWN: Final = ERROR | errno.ENOSYS

_X32_BIT: Final = 0x40000000  # calls by another table, on x86_64
_CLONE_THREAD: Final = 0x00010000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1  # SECCOMP_FILTER_FLAG_TSYNC


@dataclass(frozen=True)
class Architecture:
    """One that we have numbers for."""

    audit: int  # its AUDIT_ARCH
    column: int  # its place in a Call
    seccomp: int  # the number of seccomp(2)


ARCHITECTURES: Final = {
    "x86_64": Architecture(0xC000003E, 0, 317),
    "aarch64": Architecture(0xC00000B7, 1, 277),
}


class _Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_: ClassVar = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


def restrict() -> None:
    """Filter the calls of all threads from now on; the process has given up new privileges.

    Raises:
        OSError: The kernel refuses, or we have no numbers for this machine (ENOSYS).
    """
    found = ARCHITECTURES.get(os.uname().machine)
    if found is None or sys.maxsize <= 1 << 32:
        raise OSError(errno.ENOSYS, f"no filter for {os.uname().machine}, {sys.maxsize:#x}")
    install(found, program(found, os.getpid()))


def install(architecture: Architecture, steps: list[Step]) -> None:
    """Give the kernel a program.

    Raises:
        OSError: It refuses, or a thread has a filter of its own.
    """
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    number = architecture.seccomp
    filtered = ctypes.byref(_Filter(len(steps), code))
    if thread := kernel.syscall(number, _SET_MODE_FILTER, _ALL_THREADS, filtered):
        raise OSError(errno.EBUSY, f"thread {thread} has a filter of its own")


def program(architecture: Architecture, pid: int) -> list[Step]:
    """Return the filter of the process `pid`."""
    column = architecture.column
    steps = [*_only(architecture)]
    for call in calls.DENIED.values():
        steps += _when(call, column, [_end(_REFUSE)])
    steps += _when(calls.CLONE3, column, [_end(_UNKNOWN)])  # libraries then use clone
    for call, rule in _judged(pid):
        steps += _when(call, column, rule)
    return [*steps, _end(ALLOW)]


def _only(architecture: Architecture) -> Iterator[Step]:
    """End the process at a call by another architecture's table; leave the number loaded."""
    yield (_LOAD, 0, 0, _ARCHITECTURE_AT)
    yield (_IF_EQUAL, 1, 0, architecture.audit)
    yield _end(KILL)
    yield (_LOAD, 0, 0, _NUMBER_AT)
    yield (_IF_AT_LEAST, 0, 1, _X32_BIT)
    yield _end(KILL)


def _judged(pid: int) -> Iterator[tuple[Call, list[Step]]]:
    """Yield calls that depend on their arguments, with steps that always end."""
    allow, refuse = _end(ALLOW), _end(_REFUSE)
    threads_only = [_argument(0), (_IF_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse]
    own_limits = [_argument(0), (_IF_EQUAL, 0, 1, 0), allow, refuse]
    own_threads = [_argument(0), (_IF_EQUAL, 0, 1, pid), allow, refuse]
    # send(2) is sendto without an address, of which both halves are looked at.
    no_address = [
        *(_argument(4), (_IF_EQUAL, 0, 3, 0)),
        *(_argument(4, half=1), (_IF_EQUAL, 0, 1, 0)),
        *(allow, refuse),
    ]
    still_mortal = [
        _argument(0),
        *((_IF_EQUAL, 1, 0, _PR_SET_PDEATHSIG), (_IF_EQUAL, 0, 1, _PR_SET_DUMPABLE)),
        *(refuse, allow),
    ]
    yield calls.CLONE, threads_only
    yield calls.PRLIMIT64, own_limits
    yield calls.TGKILL, own_threads  # abort() ends by it
    yield calls.SENDTO, no_address
    yield calls.PRCTL, still_mortal


def _when(call: Call, column: int, steps: list[Step]) -> list[Step]:
    number = call[column]
    return [] if number is None else [(_IF_EQUAL, 0, len(steps), number), *steps]


def _argument(index: int, half: int = 0) -> Step:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index + 4 * half)


def _end(verdict: int) -> Step:
    return (_RETURN, 0, 0, verdict)
