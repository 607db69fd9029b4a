"""Landlock: no file but what is named, no TCP, no signals and abstract sockets to the outside.

Rules hold for the thread that asks and for those that it starts. Each kernel knows a version of
the interface (ABI) and what it added; what is missing is told, not refused. See landlock(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sprat_agent.worker.jail import kernel

_CREATE_RULESET: Final = 444  # the same number on every architecture
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH: Final = 1  # LANDLOCK_RULE_PATH_BENEATH

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_TRUNCATE: Final = 1 << 14
# How many kinds of access to files each version knows; a later one knows those of the fifth.
_KINDS: Final = (13, 14, 15, 15, 16)
_TRUNCATE_SINCE: Final = 3
_NETWORK_SINCE: Final = 4
_SCOPES_SINCE: Final = 6
_BIND_AND_CONNECT: Final = 3  # TCP
_SCOPES: Final = 3  # abstract Unix sockets, signals

# What came later than the first version, by the version that brought it.
_PARTS: Final = {
    "landlock.truncate": _TRUNCATE_SINCE,
    "landlock.network": _NETWORK_SINCE,
    "landlock.ioctl": 5,
    "landlock.scopes": _SCOPES_SINCE,
}


def version() -> int:
    """Return which version of the interface this kernel has.

    Raises:
        OSError: It has none, or it is switched off.
    """
    return kernel.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)


def lacking(abi: int) -> tuple[str, ...]:
    """Return the names of the parts that this version of the interface does not have."""
    return tuple(name for name, since in _PARTS.items() if abi < since)


def restrict(abi: int, *, readable: Sequence[Path], written: Sequence[Path] = ()) -> None:
    """Leave this thread nothing but reading what is named, and rewriting what is `written`.

    Paths that are not there, or out of this user's reach, are left out. A file is known by itself
    and not by its name, so the link to an open descriptor below /proc/self/fd stands for that file.
    The process must have given up new privileges before.

    Raises:
        OSError: The kernel refuses.
    """
    rules = _create(abi)
    try:
        for path in readable:
            _allow(rules, path, _READ_FILE | _READ_DIR)
        for path in written:
            truncate = _TRUNCATE if abi >= _TRUNCATE_SINCE else 0
            _allow(rules, path, _READ_FILE | _WRITE_FILE | truncate)
        kernel.syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def handled(abi: int) -> bytes:
    """Return `struct landlock_ruleset_attr`: everything of which a ruleset is the whole list."""
    files = (1 << _KINDS[min(abi, len(_KINDS)) - 1]) - 1
    words = [files]
    if abi >= _NETWORK_SINCE:
        words.append(_BIND_AND_CONNECT)
    if abi >= _SCOPES_SINCE:
        words.append(_SCOPES)
    return struct.pack(f"={len(words)}Q", *words)


def _create(abi: int) -> int:
    wanted = handled(abi)
    return kernel.syscall(_CREATE_RULESET, ctypes.c_char_p(wanted), len(wanted), 0)


def _allow(rules: int, path: Path, access: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            access &= ~_READ_DIR
        rule = struct.pack("=Qi", access, opened)  # struct landlock_path_beneath_attr
        kernel.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    except OSError as error:
        if error.errno != errno.EBADFD:  # a memfd, say: in no file system, so never judged
            raise
    finally:
        os.close(opened)
