"""What workers have in memory, as the kernel says, sampled all the while by a thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
PAUSE_S = 0.001


def resident_bytes(pid: int) -> int:
    """Return what a process has in memory, its libraries included; 0 when it is gone.

    Of /proc/PID/status, which everybody may read: a jailed worker's smaps only root may.
    """
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text("utf-8", "replace").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


@dataclass
class Sampled:
    """The sums over all workers of one parent."""

    most_bytes: int = 0
    samples: int = 0
    pids: set[int] = field(default_factory=set[int])  # of all workers seen
    most_workers: int = 0  # alive at once


@contextmanager
def sampled(parent: int) -> Generator[Sampled]:
    """Sample the workers that a process starts, also those that it has just ended."""
    found = Sampled()
    stop = threading.Event()
    thread = threading.Thread(target=_sample, args=(parent, found, stop), name="sampler")
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _sample(parent: int, found: Sampled, stop: threading.Event) -> None:
    others: set[int] = set()
    while not stop.wait(PAUSE_S):
        pids = {int(one.name) for one in PROC.iterdir() if one.name.isdecimal()}
        others &= pids
        workers = [pid for pid in pids - others if _is_worker(pid, parent, others)]
        total = sum(resident_bytes(pid) for pid in workers)
        found.samples += 1
        found.pids.update(workers)
        found.most_bytes = max(found.most_bytes, total)
        found.most_workers = max(found.most_workers, len(workers))


def _is_worker(pid: int, parent: int, others: set[int]) -> bool:
    """Tell whether it is a worker; before it runs its own program, it is a copy of its parent."""
    try:
        stat = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
        command = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    if int(stat.rpartition(")")[2].split()[1]) != parent:
        others.add(pid)
        return False
    return b"sprat_agent.worker" in command
