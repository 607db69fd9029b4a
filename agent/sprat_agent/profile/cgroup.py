"""Limits that control groups set on this process, versions 1 and 2 (kernel documentation).

A limit holds for all groups below, so the lowest on the way up to the root counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

# Version 1 says "no limit" with the highest multiple of a page; anything so large is none.
NO_LIMIT_BYTES: Final = 1 << 60


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the limit in bytes, or None where there is none."""
    limits = [
        *_numbers(root, "", "memory.max"),
        *_numbers(root, "memory", "memory.limit_in_bytes"),
    ]
    return min((one for one in limits if one < NO_LIMIT_BYTES), default=None)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many processors' worth of time may be used, or None where there is no limit."""
    quotas = [
        *(parse_cpu_max(text) for text in _texts(root, "", "cpu.max")),
        *(_quota_v1(folder) for folder in _folders(root, "cpu")),
    ]
    return min((one for one in quotas if one is not None), default=None)


def parse_cpu_max(text: str) -> float | None:
    """Read version 2's `cpu.max`: quota and period in microseconds, or `max`."""
    quota, _, period = text.strip().partition(" ")
    return _ratio(quota, period or "100000")


def parse_membership(text: str) -> dict[str, str]:
    """Read /proc/self/cgroup: the path of each controller; version 2's has the empty name."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number.isascii() and number.isdigit() and path.startswith("/"):
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return _ratio(quota or "", period or "")


def _ratio(quota: str, period: str) -> float | None:
    over, under = _number(quota), _number(period)
    return over / under if over and under else None


def _numbers(root: Path, controller: str, name: str) -> Iterator[int]:
    for text in _texts(root, controller, name):
        number = _number(text)
        if number is not None:
            yield number


def _texts(root: Path, controller: str, name: str) -> Iterator[str]:
    for folder in _folders(root, controller):
        text = _read(folder / name)
        if text is not None:
            yield text


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield our group's folder for a controller, and those above it up to the mount.

    In a container the path may be that of the host, which is not mounted here: then only the mount
    itself, which is our group, is there to read.
    """
    membership = parse_membership(_read(root / "proc/self/cgroup") or "")
    path = PurePosixPath(membership.get(controller, "/"))
    for mount in _mounts(root, controller):
        for relative in (path, *path.parents):
            yield mount / str(relative).lstrip("/")


def _mounts(root: Path, controller: str) -> tuple[Path, ...]:
    base = root / "sys/fs/cgroup"
    if controller:
        return (
            (base / controller, base / "cpu,cpuacct")
            if controller == "cpu"
            else (base / controller,)
        )
    return (base, base / "unified")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None  # not every group has every file


def _number(text: str) -> int | None:
    word = text.strip()
    return int(word) if word.isascii() and word.isdigit() else None
