"""When there is something to measure, and with how much memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sprat_agent.measuring.occasion import MOST_BYTES, PROCESS_BYTES, basis, model_bytes
from sprat_proto.fit import MIB, CoreKind, Profile

PROFILE = Profile(
    arch="aarch64",
    cores=4,
    cpu_features=("asimd",),
    memory_bytes=4096 * MIB,
    memory_budget_bytes=2048 * MIB,
    disk_free_bytes=0,
    accelerators=(),
    os="Linux",
    simulated=False,
    runtimes=("llama.cpp",),
    processor="Raspberry Pi 5",
)


@pytest.mark.parametrize(
    ("profile", "engine"),
    [
        (PROFILE, "llama.cpp 2"),
        (replace(PROFILE, cores=3), "llama.cpp 1"),
        (replace(PROFILE, processor="Raspberry Pi 4"), "llama.cpp 1"),
        (replace(PROFILE, core_kinds=(CoreKind(4, 1024, 2400),)), "llama.cpp 1"),
        (replace(PROFILE, cpu_quota_milli=1500), "llama.cpp 1"),
    ],
)
def test_what_a_rate_follows_from_makes_it_due_again(profile: Profile, engine: str) -> None:
    assert basis(profile, engine) != basis(PROFILE, "llama.cpp 1")


def test_what_passes_does_not() -> None:
    later = replace(
        PROFILE,
        memory_available_bytes=5,
        throttle_permille=900,
        power="battery",
        disk_free_bytes=9,
        memory_bytes=PROFILE.memory_bytes + 4096,
    )
    assert basis(later, "llama.cpp 1") == basis(PROFILE, "llama.cpp 1")


@pytest.mark.parametrize(
    ("available", "unspoken", "expected"),
    [
        (1 << 40, 1 << 40, (MOST_BYTES - PROCESS_BYTES) // 2),
        (512 * MIB, 1 << 40, 32 * MIB),  # a quarter of it, in all
        (1 << 40, 100 * MIB, 18 * MIB),  # what models do not take
        (250 * MIB, 1 << 40, 0),
        (1 << 40, 0, 0),
        (0, 0, 0),
    ],
)
def test_a_model_takes_no_more_than_is_spare(available: int, unspoken: int, expected: int) -> None:
    assert model_bytes(available, unspoken) == expected
