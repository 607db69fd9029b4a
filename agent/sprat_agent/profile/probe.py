"""Reads the hardware profile: from /proc, /sys and /dev, without running anything.

Each source is optional: a device without one of them has a shorter profile, not a failing agent.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from sprat_proto.fit import Profile

from sprat_agent.profile import cgroup, cpu, power, thermal

MILLI: Final = 1000
BUDGET_PERCENT: Final = 60  # of memory that models may use; the rest is the device's own
# Runtime of a variant: the module that runs it.
RUNTIMES: Final = {"llama.cpp": "llama_cpp"}
_ENGINE: Final = "llama-cpp-python"
_ACCELERATORS: Final = ("dev/dri/renderD*", "dev/nvidia[0-9]*", "dev/accel/accel*")
_MEMORY_LINE: Final = re.compile(r"^MemTotal:\s*([0-9]{1,15}) kB$", re.ASCII | re.MULTILINE)
_AVAILABLE_LINE: Final = re.compile(r"^MemAvailable:\s*([0-9]{1,15}) kB$", re.ASCII | re.MULTILINE)
_NAME_LINE: Final = re.compile(r"^PRETTY_NAME=(.*)$", re.MULTILINE)


def measure(
    state_dir: Path, budget_percent: int = BUDGET_PERCENT, root: Path = Path("/")
) -> Profile:
    """Return this device's profile, without what a micro-benchmark finds.

    Args:
        state_dir: Where models will be kept; its file system's free space counts.
        budget_percent: Share of memory that models may use, 1 to 100.
        root: Where proc, sys, dev and etc are; another one in tests.
    """
    cpuinfo = _text(root / "proc/cpuinfo")
    memory = _memory(root)
    profile = Profile(
        arch=platform.machine(),
        cores=cpu.usable_cores(root),
        cpu_features=cpu.features(cpuinfo),
        memory_bytes=memory,
        memory_budget_bytes=memory * budget_percent // 100,
        disk_free_bytes=disk_free(state_dir),
        accelerators=accelerators(root),
        os=os_name(_text(root / "etc/os-release")),
        simulated=False,
        runtimes=runtimes(),
        processor=cpu.processor(cpuinfo, root),
        core_kinds=cpu.core_kinds(root),
        cpu_quota_milli=cpu_quota_milli(root),
        memory_limit_bytes=cgroup.memory_limit(root) or 0,
    )
    return refreshed(profile, state_dir, root)


def refreshed(profile: Profile, state_dir: Path, root: Path = Path("/")) -> Profile:
    """Return the profile with what changes from moment to moment read anew; see `measure`.

    A declared profile stays as it is.
    """
    if profile.simulated:
        return profile
    throttled = thermal.throttle_ratio(root)
    return replace(
        profile,
        disk_free_bytes=disk_free(state_dir),
        memory_available_bytes=memory_available(root),
        throttle_permille=None if throttled is None else round(throttled * MILLI),
        power=power.source(root),
    )


def cpu_quota_milli(root: Path = Path("/")) -> int:
    """Return the thousandths of a processor that a control group allows; 0: no limit."""
    return round((cgroup.cpu_quota(root) or 0) * MILLI)


def memory_total(meminfo: str) -> int:
    """Return bytes of physical memory from the text of /proc/meminfo; 0 if it does not say."""
    found = _MEMORY_LINE.search(meminfo)
    return int(found[1]) * 1024 if found else 0


def memory_available(root: Path = Path("/")) -> int:
    """Return the bytes of memory that programs may still take; 0 where the kernel does not say."""
    found = _AVAILABLE_LINE.search(_text(root / "proc/meminfo"))
    return int(found[1]) * 1024 if found else 0


def os_name(os_release: str) -> str:
    """Return the name of the system from the text of /etc/os-release (os-release(5))."""
    found = _NAME_LINE.search(os_release)
    name = found[1].strip().strip("\"'") if found else ""
    return name[:128] or platform.system()


def disk_free(folder: Path) -> int:
    """Return the bytes that an ordinary user may still write to the folder's file system."""
    numbers = os.statvfs(folder)
    return numbers.f_bavail * numbers.f_frsize


def accelerators(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the device files of accelerators, as `dri/renderD128`."""
    found = {path for pattern in _ACCELERATORS for path in root.glob(pattern)}
    return tuple(sorted(str(path.relative_to(root / "dev")) for path in found))


def engine() -> str:
    """Return library and version that models run with; empty: none is installed."""
    try:
        return f"{_ENGINE} {importlib.metadata.version(_ENGINE)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def runtimes() -> tuple[str, ...]:
    """Return the runtimes that are installed here; none is imported for it."""
    return tuple(name for name, module in RUNTIMES.items() if importlib.util.find_spec(module))


def _memory(root: Path) -> int:
    physical = memory_total(_text(root / "proc/meminfo"))
    limit = cgroup.memory_limit(root)
    return physical if limit is None else min(physical or limit, limit)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not every system has every file
