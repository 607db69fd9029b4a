"""Hardware as a fleet has it, from a board of 1 GB to a server.

All numbers are made up: plausible for such hardware, measured on none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sprat_proto.fit import CoreKind, Profile
from sprat_proto.rates import FEMTO, Measured, TypeCost

GB: Final = 10**9
GIB: Final = 1 << 30
# What a byte costs against one of F16, which waits for memory alone, in hundredths; and a weight
# and token of a prompt, against what the processor does at its best.
_DECODE: Final = {
    "f32": 100, "f16": 100, "q8_0": 105, "q5_1": 165, "q4_0": 110, "q4_k": 125, "q6_k": 140
}  # fmt: skip
_PREFILL: Final = {
    "f32": 250, "f16": 200, "q8_0": 110, "q5_1": 190, "q4_0": 100, "q4_k": 125, "q6_k": 150
}  # fmt: skip


# Without AVX2 and F16C the processor, not memory, is what decoding waits for.
_DECODE_OLD: Final = {
    "f32": 100, "f16": 300, "q8_0": 130, "q5_1": 300, "q4_0": 250, "q4_k": 280, "q6_k": 290
}  # fmt: skip


def measured(
    bandwidth_gb: float, giga_weights: float, threads: int, decode: Mapping[str, int] = _DECODE
) -> Measured:
    """Return what such hardware would measure of itself.

    Args:
        bandwidth_gb: Of memory that is read, 10^9 bytes a second.
        giga_weights: 10^9 weights and tokens of a prompt that it works through in a second.
        threads: That did it.
        decode: What a byte costs when a token is decoded, by type, in hundredths of memory's part.
    """
    bandwidth, weights = int(bandwidth_gb * GB), int(giga_weights * GB)
    return Measured(
        at_ms=1_795_000_000_000,
        engine="llama.cpp made-up",
        threads=threads,
        bandwidth=bandwidth,
        step_ns=400_000,
        layer_ns=40_000,
        kv_fs=2 * FEMTO // bandwidth,
        costs=tuple(
            TypeCost(
                kind,
                FEMTO * decode[kind] // (100 * bandwidth),
                FEMTO * _PREFILL[kind] // (100 * weights),
            )
            for kind in decode
        ),
        look_fs=3 * FEMTO // weights,
    )


def board(
    arch: str,
    cores: int,
    memory_gib: float,
    budget_gib: float,
    rates: Measured | None,
    *,
    disk_gib: float = 32,
    accelerators: tuple[str, ...] = (),
    runtimes: tuple[str, ...] = ("llama.cpp",),
    cpu_features: tuple[str, ...] = (),
    cpu_quota_milli: int = 0,
    memory_limit_gib: float = 0,
    processor: str = "",
) -> Profile:
    """Return a profile; sizes in GiB."""
    return Profile(
        arch=arch,
        cores=cores,
        cpu_features=cpu_features,
        memory_bytes=int(memory_gib * GIB),
        memory_budget_bytes=int(budget_gib * GIB),
        disk_free_bytes=int(disk_gib * GIB),
        accelerators=accelerators,
        os="Linux",
        simulated=True,
        runtimes=runtimes,
        processor=processor,
        core_kinds=(CoreKind(cores, 1024),),
        cpu_quota_milli=cpu_quota_milli,
        memory_limit_bytes=int(memory_limit_gib * GIB),
        measured=rates,
    )


_A76: Final = ("asimd", "asimddp", "fphp")
_AVX2: Final = ("avx", "avx2", "f16c", "fma")
BOARDS: Final[Mapping[str, Profile]] = {
    "arm board 512 MB": board("aarch64", 4, 0.45, 0.25, measured(1.6, 3, 4), disk_gib=4),
    "arm board 1 GB": board("aarch64", 4, 0.95, 0.6, measured(2.2, 4, 4), disk_gib=8),
    "Pi 4, 4 GB": board("aarch64", 4, 3.7, 2.6, measured(4.2, 15, 4)),
    "Pi 4, 8 GB": board("aarch64", 4, 7.6, 5.4, measured(4.2, 15, 4)),
    "Pi 5, 4 GB": board("aarch64", 4, 3.9, 2.8, measured(11, 90, 4), cpu_features=_A76),
    "Pi 5, 8 GB": board("aarch64", 4, 7.9, 6.0, measured(11, 90, 4), cpu_features=_A76),
    "Pi 5, full disk": board(
        "aarch64", 4, 7.9, 6.0, measured(11, 90, 4), cpu_features=_A76, disk_gib=0.5
    ),
    "Jetson-like, 8 GB": board(
        "aarch64", 6, 7.4, 5.0, measured(26, 120, 6), accelerators=("cuda",), cpu_features=_A76
    ),
    "NPU box, 8 GB": board(
        *("aarch64", 8, 7.7, 5.5, measured(17, 80, 4)),
        accelerators=("npu",),
        runtimes=("llama.cpp", "npu"),
        cpu_features=_A76,
    ),
    "NPU only": board("aarch64", 2, 3.9, 3.0, None, accelerators=("npu",), runtimes=("npu",)),
    "Celeron, no AVX2": board("x86_64", 2, 3.7, 2.5, measured(5.5, 4, 2, _DECODE_OLD)),
    "N100 mini PC, 8 GB": board("x86_64", 4, 7.6, 5.5, measured(19, 60, 4), cpu_features=_AVX2),
    "container, 1.5 GiB": board(
        *("x86_64", 8, 1.5, 1.3, measured(14, 60, 2)),
        cpu_features=_AVX2,
        cpu_quota_milli=2000,
        memory_limit_gib=1.5,
    ),
    "server, 8 GB": board("x86_64", 4, 7.7, 6.5, measured(32, 150, 4), cpu_features=_AVX2),
    "server, 16 GB": board("x86_64", 16, 15.6, 14.0, measured(60, 600, 16), cpu_features=_AVX2),
    "server, unmeasured": board("x86_64", 16, 15.6, 14.0, None, cpu_features=_AVX2),
    "RISC-V board, 8 GB": board("riscv64", 8, 7.8, 6.0, measured(6, 5, 8)),
}
