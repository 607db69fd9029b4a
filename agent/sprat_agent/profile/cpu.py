"""Processors: how many this process may use, of which kinds, and what they can do."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from sprat_proto.declared import FULL_CAPACITY, MAX_NAME
from sprat_proto.fit import CoreKind

from sprat_agent.profile import cgroup

# What llama.cpp's kernels for processors choose by, as the kernel spells it (SSE3 is `pni`); all
# others would only make the profile long.
FEATURES: Final = frozenset(
    {
        *("pni", "ssse3", "sse4_1", "sse4_2", "f16c", "fma", "avx", "avx2", "bmi2", "avx_vnni"),
        *("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
        *("avx512_vnni", "avx512_bf16", "avx512vbmi", "amx_int8", "amx_tile", "amx_bf16"),
        *("neon", "vfpv4", "asimd", "asimddp", "asimdhp", "fphp", "i8mm", "bf16"),
        *("sve", "sve2", "svei8mm", "sme", "sme2"),
        *("v", "zfh", "zvfh", "zicbop", "zihintpause"),
        *("lsx", "lasx", "vsx", "vx", "vxe", "vxe2", "nnpa"),
    }
)
_FEATURE_LINES: Final = frozenset({"flags", "features", "Features"})
_ISA_LINE: Final = "isa"  # RISC-V: as `rv64imafdcv_zicbom_zvfh`
_DEVICE_TREE: Final = ("proc/device-tree/model", "sys/firmware/devicetree/base/model")
# Names of a processor in /proc/cpuinfo, most telling first.
_NAME_LINES: Final = ("model name", "cpu model", "Model Name", "Hardware", "cpu", "uarch")
_ARM_LINES: Final = ("CPU implementer", "CPU part")


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many processors this process may keep busy: affinity, and control groups' quota.

    A quota of 1.5 processors counts as one: a second thread would be throttled half the time, and
    the engine's threads wait for the slowest.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = cgroup.cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def features(cpuinfo: str) -> tuple[str, ...]:
    """Return the features that inference cares for, sorted, from the text of /proc/cpuinfo.

    A feature counts if every processor has it: big and little cores may differ.
    """
    lines = [(key.strip(), value.strip()) for key, value in _lines(cpuinfo)]
    sets = [set(value.split()) for key, value in lines if key in _FEATURE_LINES]
    sets += [_of_isa(value) for key, value in lines if key == _ISA_LINE]
    return _known(set[str].intersection(*sets)) if sets else ()


def processor(cpuinfo: str, root: Path = Path("/")) -> str:
    """Return the name of the processor, or of the board that is sold with it; empty: unknown.

    A device tree names the board, which says more than the `ARMv7 Processor` of /proc/cpuinfo.
    """
    values: dict[str, str] = {}
    for key, value in _lines(cpuinfo):
        values.setdefault(key.strip(), value)
    names = [_text(root / name).replace("\0", " ") for name in _DEVICE_TREE]
    names += [values.get(key, "") for key in _NAME_LINES]
    names.append(" ".join(f"{key} {values[key].strip()}" for key in _ARM_LINES if key in values))
    return next((one for one in map(_printed, names) if one), "")


def core_kinds(
    root: Path = Path("/"), usable: Collection[int] | None = None
) -> tuple[CoreKind, ...]:
    """Return the kinds of processors, strongest first; none where the kernel tells of none.

    Where it gives no capacities, as on most x86, the highest frequencies stand for them.

    Args:
        root: Where sys is; another one in tests.
        usable: Numbers of the processors that count; by default those that this process may use.
    """
    chosen = os.sched_getaffinity(0) if usable is None else usable
    folders = [root / f"sys/devices/system/cpu/cpu{number}" for number in sorted(chosen)]
    found = [
        (_number(folder / "cpu_capacity"), _number(folder / "cpufreq/cpuinfo_max_freq") // 1000)
        for folder in folders
        if folder.is_dir()
    ]
    fastest = max((mhz for _, mhz in found), default=0)
    kinds = Counter((capacity or _by_speed(mhz, fastest), mhz) for capacity, mhz in found)
    return tuple(
        CoreKind(count, capacity, mhz) for (capacity, mhz), count in sorted(kinds.items())[::-1]
    )


def _by_speed(mhz: int, fastest: int) -> int:
    return FULL_CAPACITY * mhz // fastest if mhz else FULL_CAPACITY


def _lines(cpuinfo: str) -> Iterable[tuple[str, str]]:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        yield key, value


def _of_isa(isa: str) -> set[str]:
    letters, *extensions = isa.split("_")
    return {*re.sub(r"^rv[0-9]+", "", letters), *extensions}


def _printed(text: str) -> str:
    words = " ".join(text.split())
    return "".join(letter for letter in words if letter.isprintable())[:MAX_NAME].strip()


def _known(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(FEATURES.intersection(names)))


def _number(path: Path) -> int:
    word = _text(path).strip()
    return int(word[:15]) if word.isascii() and word.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not every device has every file
