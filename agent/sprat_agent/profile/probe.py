"""Measures the hardware profile: from /proc, /sys and /dev, without running anything.

Each source is optional: a device without one of them has a shorter profile, not a failing agent.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from sprat_proto.fit import Profile

from sprat_agent.profile import cgroup, cpu

BUDGET_PERCENT: Final = 60  # of memory that models may use; the rest is the device's own
# Runtime of a variant: the module that runs it.
RUNTIMES: Final = {"llama.cpp": "llama_cpp"}
_ACCELERATORS: Final = ("dev/dri/renderD*", "dev/nvidia[0-9]*", "dev/accel/accel*")
_MEMORY_LINE: Final = re.compile(r"^MemTotal:\s*([0-9]{1,15}) kB$", re.ASCII | re.MULTILINE)
_NAME_LINE: Final = re.compile(r"^PRETTY_NAME=(.*)$", re.MULTILINE)

_Size = Annotated[int, Meta(ge=0, le=1 << 60)]
_Word = Annotated[str, Meta(min_length=1, max_length=256)]


class ProfileError(ValueError):
    """A declared profile cannot be read: one sentence."""


class _Declared(Struct, frozen=True, forbid_unknown_fields=True):
    arch: _Word
    cores: Annotated[int, Meta(ge=1, le=4096)]
    cpu_features: list[_Word]
    memory_bytes: _Size
    memory_budget_bytes: _Size
    disk_free_bytes: _Size
    accelerators: list[_Word]
    os: _Word
    runtimes: list[_Word]
    simulated: bool = True  # a declared profile is, whatever it says


def measure(
    state_dir: Path, budget_percent: int = BUDGET_PERCENT, root: Path = Path("/")
) -> Profile:
    """Return this device's profile.

    Args:
        state_dir: Where models will be kept; its file system's free space counts.
        budget_percent: Share of memory that models may use, 1 to 100.
        root: Where proc, sys, dev and etc are; another one in tests.
    """
    memory = _memory(root)
    return Profile(
        arch=platform.machine(),
        cores=cpu.usable_cores(root),
        cpu_features=cpu.features(_text(root / "proc/cpuinfo")),
        memory_bytes=memory,
        memory_budget_bytes=memory * budget_percent // 100,
        disk_free_bytes=disk_free(state_dir),
        accelerators=accelerators(root),
        os=os_name(_text(root / "etc/os-release")),
        simulated=False,
        runtimes=runtimes(),
    )


def declared(path: Path) -> Profile:
    """Return the profile that a JSON file declares, marked as simulated.

    Raises:
        ProfileError: It cannot be read, or a field is missing, unknown or wrong.
    """
    try:
        fields = msgspec.json.decode(path.read_bytes(), type=_Declared)
    except OSError as error:
        raise ProfileError(f"cannot read the declared profile {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"the declared profile {path} is not valid: {error}") from error
    return Profile(
        arch=fields.arch,
        cores=fields.cores,
        cpu_features=tuple(fields.cpu_features),
        memory_bytes=fields.memory_bytes,
        memory_budget_bytes=fields.memory_budget_bytes,
        disk_free_bytes=fields.disk_free_bytes,
        accelerators=tuple(fields.accelerators),
        os=fields.os,
        simulated=True,
        runtimes=tuple(fields.runtimes),
    )


def memory_total(meminfo: str) -> int:
    """Return bytes of physical memory from the text of /proc/meminfo; 0 if it does not say."""
    found = _MEMORY_LINE.search(meminfo)
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
