"""A cgroup of a test's own, where the machine lets us make one with a memory limit.

Version 2, or version 1's memory controller where that one has it (kernel documentation).
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_UNIFIED = "0::"


@dataclass(frozen=True)
class Parent:
    """A cgroup in which others can be made."""

    folder: Path
    is_unified: bool  # of version 2


def parent() -> Parent | None:
    """Return the nearest cgroup above us in which one with a memory limit can be made."""
    if not (ROOT / "cgroup.controllers").exists():
        return _parent_v1()
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    (ours,) = (line.removeprefix(_UNIFIED) for line in lines if line.startswith(_UNIFIED))
    here = ROOT / ours.lstrip("/")
    for one in (here, *here.parents):
        if one.is_relative_to(ROOT) and _can_limit(one):
            return Parent(one, is_unified=True)
    return None


def _parent_v1() -> Parent | None:
    folder = ROOT / "memory"
    can = (folder / "memory.limit_in_bytes").exists() and os.access(folder, os.W_OK)
    return Parent(folder, is_unified=False) if can else None


def _can_limit(group: Path) -> bool:
    passed_on = group / "cgroup.subtree_control"
    return (
        passed_on.exists()
        and "memory" in passed_on.read_text(encoding="ascii").split()
        and all(os.access(one, os.W_OK) for one in (group, group / "cgroup.procs"))
    )


class Group:
    """A cgroup; `joining` is what a shell runs before a program that is to be in it."""

    def __init__(self, folder: Path, *, is_unified: bool) -> None:
        self._folder = folder
        self._is_unified = is_unified
        self.joining = f"echo $$ > {folder / 'cgroup.procs'}"

    def limit(self, size_bytes: int) -> None:
        """Let its processes have so much memory together; a page more, and one is killed."""
        name = "memory.max" if self._is_unified else "memory.limit_in_bytes"
        (self._folder / name).write_text(str(size_bytes), encoding="ascii")
        swap = self._folder / "memory.swap.max"
        if swap.exists():
            swap.write_text("0", encoding="ascii")

    def take_away(self, size_bytes: int) -> None:
        """Have less memory than the processes have of their own: the kernel kills for it.

        Version 2 only: version 1 refuses a limit that is below what is in use.
        """
        stat = (self._folder / "memory.stat").read_text(encoding="ascii").split()
        used = int(stat[stat.index("anon") + 1])  # without the files' pages, which it would take
        self.limit(used - size_bytes)
        (self._folder / "memory.max").write_text("max", encoding="ascii")

    def kills(self) -> int:
        """Return how many processes the kernel killed because memory ran out."""
        name = "memory.events" if self._is_unified else "memory.oom_control"
        events = (self._folder / name).read_text(encoding="ascii").split()
        return int(events[events.index("oom_kill") + 1])


@contextmanager
def made(parent: Parent) -> Generator[Group]:
    """Make one, and remove it when all that ran in it is gone."""
    folder = parent.folder / f"sprat-test-{os.getpid()}"
    folder.mkdir()
    try:
        yield Group(folder, is_unified=parent.is_unified)
    finally:
        folder.rmdir()
