"""Processors: how many this process may use, and what they can do."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sprat_agent.profile import cgroup

# What llama.cpp's kernels for processors choose by; all others would only make the profile long.
FEATURES: Final = frozenset(
    {
        *("sse3", "ssse3", "sse4_1", "sse4_2", "f16c", "fma", "avx", "avx2", "bmi2", "avx_vnni"),
        *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512vbmi"),
        *("amx_int8", "amx_tile", "amx_bf16"),
        *("asimd", "asimddp", "asimdhp", "fphp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "sme"),
        *("v", "zvfh", "lsx", "lasx", "vsx", "vxe", "vxe2", "nnpa"),
    }
)
_FEATURE_LINES: Final = frozenset({"flags", "features", "Features"})


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
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    sets = [set(value.split()) for key, _, value in lines if key.strip() in _FEATURE_LINES]
    return _known(set[str].intersection(*sets)) if sets else ()


def _known(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(FEATURES.intersection(names)))
