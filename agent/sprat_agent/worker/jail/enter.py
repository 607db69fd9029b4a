"""The jail: what a model file that takes the worker over can still do is what is left here."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sprat_agent.worker.jail import kernel, landlock, seccomp
from sprat_agent.worker.jail.address_space import address_space

_LOG = logging.getLogger(__name__)
_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS: Final = 38
_MORE_DESCRIPTORS: Final = 32  # beyond each open file once more


def enter(
    *,
    readable: Sequence[Path],
    memory_bytes: int,
    written: Sequence[Path] = (),
    written_bytes: int = 0,
) -> tuple[str, ...]:
    """Give up, for good, everything that answering with a model does not need.

    Threads that were started before keep their sight of the file system, so there should be none.

    Args:
        readable: Files, and folders with all that is in them.
        memory_bytes: How much address space there may be beyond what there is; 0: any.
        written: Files that may be written.
        written_bytes: How long any of them may become.

    Returns:
        The parts of the jail that this kernel lacks. They are reported and not fatal: an old
        kernel still has the rest, and the agent's unit has walls of its own.
    """
    _limit(memory_bytes, written_bytes)
    lacking: list[str] = []
    _without(lacking, "no new privileges", lambda: kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1))
    _without(lacking, "no capabilities", kernel.drop_capabilities)
    _without(lacking, "not dumpable", lambda: kernel.prctl(_PR_SET_DUMPABLE, 0))
    _without(lacking, "landlock", lambda: lacking.extend(_wall(readable, written)))
    _without(lacking, "seccomp", seccomp.restrict)
    return tuple(lacking)


def _limit(memory_bytes: int, written_bytes: int) -> None:
    opened = len(list(Path("/proc/self/fd").iterdir()))
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, written_bytes)
    _lower(resource.RLIMIT_NOFILE, 2 * opened + _MORE_DESCRIPTORS)
    there = address_space()  # asked in any case: it keeps open what it needs in the jail
    if memory_bytes > 0:
        _lower(resource.RLIMIT_AS, there + memory_bytes)


def _lower(which: int, most: int) -> None:
    """Set a limit for good, unless it is lower already."""
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(which, (most, most))


def _wall(readable: Sequence[Path], written: Sequence[Path]) -> tuple[str, ...]:
    abi = landlock.version()
    threads = len(list(Path("/proc/self/task").iterdir()))
    landlock.restrict(abi, readable=readable, written=written)
    return (*landlock.lacking(abi), *(("landlock.threads",) if threads > 1 else ()))


def _without(lacking: list[str], name: str, part: Callable[[], None]) -> None:
    try:
        part()
    except OSError as error:
        _LOG.warning("the worker's jail goes without %s: %s", name, error)
        lacking.append(name)
