"""Which processors there are, and what they can do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.profile import cpu
from sprat_proto.declared import MAX_NAME
from sprat_proto.fit import CoreKind

X86 = """processor\t: 0
model name\t: AMD EPYC
flags\t\t: fpu vme sse4_2 avx avx2 fma avx512f avx512_vnni

processor\t: 1
flags\t\t: fpu vme sse4_2 avx avx2 fma
"""
RISCV = "processor\t: 0\nhart\t\t: 2\nisa\t\t: rv64imafdcv_zicbom_zvfh\nuarch\t\t: thead,c920\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"


def with_processors(root: Path, *processors: tuple[int | None, int | None]) -> Path:
    """Give the root processors, by capacity and highest frequency in kHz."""
    for number, (capacity, khz) in enumerate(processors):
        folder = root / f"sys/devices/system/cpu/cpu{number}"
        (folder / "cpufreq").mkdir(parents=True)
        if capacity is not None:
            (folder / "cpu_capacity").write_text(f"{capacity}\n")
        if khz is not None:
            (folder / "cpufreq/cpuinfo_max_freq").write_text(f"{khz}\n")
    return root


def test_a_feature_counts_if_every_processor_has_it() -> None:
    assert cpu.features(X86) == ("avx", "avx2", "fma", "sse4_2")
    assert cpu.features(RISCV) == ("v", "zvfh")


def test_a_processor_is_named_by_what_says_most(tmp_path: Path) -> None:
    assert cpu.processor(X86, tmp_path) == "AMD EPYC"
    assert cpu.processor(RISCV, tmp_path) == "thead,c920"
    assert cpu.processor(ARM, tmp_path) == "CPU implementer 0x41 CPU part 0xd0b"
    assert cpu.processor("", tmp_path) == ""
    (tmp_path / "sys/firmware/devicetree/base").mkdir(parents=True)
    (tmp_path / "sys/firmware/devicetree/base/model").write_bytes(b"Radxa  ROCK 5B\0")
    assert cpu.processor(ARM, tmp_path) == "Radxa ROCK 5B"


@pytest.mark.parametrize(
    ("quota", "usable"),
    [
        ("max 100000", 4),
        ("900000 100000", 4),
        ("250000 100000", 2),
        ("199999 100000", 1),
        ("150000 100000", 1),
        ("50000 100000", 1),
    ],
)
def test_a_part_of_a_processor_is_none_but_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, usable: int
) -> None:
    def affinity(_: int) -> set[int]:
        return {0, 1, 2, 3}

    monkeypatch.setattr(os, "sched_getaffinity", affinity)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(f"{quota}\n")
    assert cpu.usable_cores(tmp_path) == usable


def test_big_and_little_processors_are_kinds(tmp_path: Path) -> None:
    with_processors(tmp_path, (414, 1_800_000), (414, 1_800_000), (1024, 2_400_000))
    assert cpu.core_kinds(tmp_path, {0, 1, 2}) == (
        CoreKind(1, 1024, 2400),
        CoreKind(2, 414, 1800),
    )


def test_only_processors_that_may_be_used_count(tmp_path: Path) -> None:
    with_processors(tmp_path, (512, None), (1024, None))
    assert cpu.core_kinds(tmp_path, {0, 7}) == (CoreKind(1, 512),)


@pytest.mark.parametrize(
    ("processors", "kinds"),
    [
        ([(None, 5_000_000), (None, 4_000_000)], (CoreKind(1, 1024, 5000), CoreKind(1, 819, 4000))),
        ([(None, None), (None, None)], (CoreKind(2, 1024),)),
        ([], ()),
    ],
)
def test_without_capacities_frequencies_stand_for_them(
    tmp_path: Path,
    processors: list[tuple[int | None, int | None]],
    kinds: tuple[CoreKind, ...],
) -> None:
    with_processors(tmp_path, *processors)
    assert cpu.core_kinds(tmp_path, range(4)) == kinds


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert cpu.FEATURES.issuperset(cpu.features(text))
    assert len(cpu.processor(text, Path("/nothing"))) <= MAX_NAME
