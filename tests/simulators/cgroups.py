"""A cgroup (version 2) of a test's own, where the machine lets us make one with a memory limit."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_UNIFIED = "0::"


def parent() -> Path | None:
    """Return the nearest cgroup above us in which one with a memory limit can be made."""
    if not (ROOT / "cgroup.controllers").exists():
        return None  # version 1 has the memory controller, or nobody
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    (ours,) = (line.removeprefix(_UNIFIED) for line in lines if line.startswith(_UNIFIED))
    here = ROOT / ours.lstrip("/")
    for one in (here, *here.parents):
        if one.is_relative_to(ROOT) and _can_limit(one):
            return one
    return None


def _can_limit(group: Path) -> bool:
    passed_on = group / "cgroup.subtree_control"
    return (
        passed_on.exists()
        and "memory" in passed_on.read_text(encoding="ascii").split()
        and all(os.access(one, os.W_OK) for one in (group, group / "cgroup.procs"))
    )


class Group:
    """A cgroup; `joining` is what a shell runs before a program that is to be in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.joining = f"echo $$ > {folder / 'cgroup.procs'}"

    def take_away(self, size_bytes: int) -> None:
        """Have less memory than the processes have of their own: the kernel kills for it."""
        stat = (self._folder / "memory.stat").read_text(encoding="ascii").split()
        used = int(stat[stat.index("anon") + 1])  # without the files' pages, which it would take
        swap = self._folder / "memory.swap.max"
        if swap.exists():
            swap.write_text("0", encoding="ascii")
        limit = self._folder / "memory.max"
        limit.write_text(str(used - size_bytes), encoding="ascii")
        limit.write_text("max", encoding="ascii")

    def kills(self) -> int:
        """Return how many processes the kernel killed because memory ran out."""
        events = (self._folder / "memory.events").read_text(encoding="ascii").split()
        return int(events[events.index("oom_kill") + 1])


@contextmanager
def made(parent: Path) -> Generator[Group]:
    """Make one, and remove it when all that ran in it is gone."""
    folder = parent / f"sprat-test-{os.getpid()}"
    folder.mkdir()
    try:
        yield Group(folder)
    finally:
        folder.rmdir()
