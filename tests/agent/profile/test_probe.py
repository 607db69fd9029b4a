"""The measured profile of any device, and the declared one of a simulated."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.profile import cpu, probe
from sprat_proto.fit import MIB

X86 = """processor\t: 0
model name\t: AMD EPYC
flags\t\t: fpu vme sse4_2 avx avx2 fma avx512f avx512_vnni

processor\t: 1
flags\t\t: fpu vme sse4_2 avx avx2 fma
"""
PI5 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 asimdhp asimddp\nCPU part\t: 0xd0b\n"
DECLARED: dict[str, Any] = {
    "arch": "aarch64",
    "cores": 4,
    "cpu_features": ["asimd"],
    "memory_bytes": 1024 * MIB,
    "memory_budget_bytes": 600 * MIB,
    "disk_free_bytes": 8192 * MIB,
    "accelerators": [],
    "os": "Raspberry Pi OS",
    "runtimes": ["llama.cpp"],
}


def device(root: Path) -> Path:
    files = {
        "proc/meminfo": "MemTotal:        4046000 kB\nMemFree:          100 kB\n",
        "proc/cpuinfo": PI5,
        "proc/self/cgroup": "0::/\n",
        "etc/os-release": 'NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "dev/dri/renderD128": "",
        "dev/dri/card0": "",
        "dev/nvidia0": "",
        "dev/nvidiactl": "",
        "dev/accel/accel0": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_device_is_measured(tmp_path: Path) -> None:
    profile = probe.measure(tmp_path, 50, device(tmp_path))
    assert profile.memory_bytes == 4046000 * 1024
    assert profile.memory_budget_bytes == profile.memory_bytes // 2
    assert profile.cpu_features == ("asimd", "asimddp", "asimdhp")
    assert profile.accelerators == ("accel/accel0", "dri/renderD128", "nvidia0")
    assert profile.os == "Debian GNU/Linux 12 (bookworm)"
    assert profile.arch == os.uname().machine
    assert profile.disk_free_bytes > 0
    assert profile.runtimes == ("llama.cpp",)
    assert not profile.simulated


def test_a_control_groups_limit_is_the_memory_there_is(tmp_path: Path) -> None:
    device(tmp_path)
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text(f"{512 * MIB}\n")
    assert probe.measure(tmp_path, 60, tmp_path).memory_bytes == 512 * MIB
    limit.write_text(f"{1 << 50}\n")
    assert probe.measure(tmp_path, 60, tmp_path).memory_bytes == 4046000 * 1024


def test_a_device_without_any_of_the_sources_has_a_profile_all_the_same(tmp_path: Path) -> None:
    profile = probe.measure(tmp_path, 60, tmp_path)
    assert (profile.memory_bytes, profile.cpu_features, profile.accelerators) == (0, (), ())
    assert profile.cores >= 1


def test_this_machine_is_measured(tmp_path: Path) -> None:
    profile = probe.measure(tmp_path)
    assert 1 <= profile.cores <= len(os.sched_getaffinity(0))
    assert profile.memory_bytes > 256 * MIB


def test_a_feature_counts_if_every_processor_has_it() -> None:
    assert cpu.features(X86) == ("avx", "avx2", "fma", "sse4_2")


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", None), ("50000 100000", 1)])
def test_cores_are_what_affinity_and_quota_allow(
    tmp_path: Path, quota: str, cores: int | None
) -> None:
    device(tmp_path)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(quota)
    assert cpu.usable_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert probe.memory_total(text) >= 0
    assert 0 < len(probe.os_name(text)) <= 128
    assert cpu.FEATURES.issuperset(cpu.features(text))


def declare(tmp_path: Path, fields: object) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(fields))
    return path


@pytest.mark.parametrize("said", [{}, {"simulated": False}, {"simulated": True}])
def test_a_declared_profile_is_simulated_whatever_it_says(
    tmp_path: Path, said: dict[str, bool]
) -> None:
    profile = probe.declared(declare(tmp_path, {**DECLARED, **said}))
    assert profile.simulated
    assert (profile.arch, profile.cores, profile.cpu_features) == ("aarch64", 4, ("asimd",))
    assert profile.memory_budget_bytes == 600 * MIB


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({**DECLARED, "gpu": "big"}, "unknown field `gpu`"),
        (
            {key: DECLARED[key] for key in DECLARED if key != "arch"},
            "missing required field `arch`",
        ),
        ({**DECLARED, "cores": 0}, r"`int` >= 1 - at `\$.cores`"),
        ({**DECLARED, "cores": "four"}, r"Expected `int`, got `str` - at `\$.cores`"),
        ([], "Expected `object`"),
    ],
)
def test_a_wrong_declaration_is_one_clear_sentence(
    tmp_path: Path, fields: object, sentence: str
) -> None:
    with pytest.raises(probe.ProfileError, match=sentence) as caught:
        probe.declared(declare(tmp_path, fields))
    assert "profile.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_declaration_that_is_not_there_or_not_json_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(probe.ProfileError, match="No such file"):
        probe.declared(tmp_path / "nothing.json")
    path = tmp_path / "bytes.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(probe.ProfileError, match="not valid"):
        probe.declared(path)
