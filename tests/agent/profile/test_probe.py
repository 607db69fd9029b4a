"""The measured profile of any device."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.profile import cpu, probe
from sprat_proto.fit import MIB

PI5 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 asimdhp asimddp\nCPU part\t: 0xd0b\n"


def device(root: Path) -> Path:
    files = {
        "proc/meminfo": "MemTotal:        4046000 kB\nMemAvailable:    2000000 kB\n",
        "proc/cpuinfo": PI5,
        "proc/self/cgroup": "0::/\n",
        "etc/os-release": 'NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
        "sys/class/thermal/cooling_device0/cur_state": "1\n",
        "sys/class/thermal/cooling_device0/max_state": "4\n",
        "sys/class/power_supply/usb/type": "USB\n",
        "sys/class/power_supply/usb/online": "1\n",
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
    assert profile.processor == "Raspberry Pi 5 Model B Rev 1.0"
    assert profile.memory_available_bytes == 2000000 * 1024
    assert (profile.throttle_permille, profile.power) == (250, "mains")
    assert (profile.memory_limit_bytes, profile.cpu_quota_milli) == (0, 0)
    assert profile.measured is None


def test_what_changes_from_moment_to_moment_is_read_anew(tmp_path: Path) -> None:
    before = probe.measure(tmp_path, 50, device(tmp_path))
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1 kB\nMemAvailable: 7 kB\n")
    (tmp_path / "sys/class/thermal/cooling_device0/cur_state").write_text("4\n")
    (tmp_path / "sys/class/power_supply/usb/online").write_text("0\n")
    now = probe.refreshed(before, tmp_path, tmp_path)
    assert (now.memory_available_bytes, now.throttle_permille, now.power) == (7168, 1000, "")
    assert now.memory_bytes == before.memory_bytes
    said = replace(before, simulated=True)
    assert probe.refreshed(said, tmp_path, tmp_path) == said


def test_a_control_groups_limit_is_the_memory_there_is(tmp_path: Path) -> None:
    device(tmp_path)
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text(f"{512 * MIB}\n")
    limited = probe.measure(tmp_path, 60, tmp_path)
    assert limited.memory_bytes == limited.memory_limit_bytes == 512 * MIB
    limit.write_text(f"{1 << 50}\n")
    assert probe.measure(tmp_path, 60, tmp_path).memory_bytes == 4046000 * 1024


def test_a_device_without_any_of_the_sources_has_a_profile_all_the_same(tmp_path: Path) -> None:
    profile = probe.measure(tmp_path, 60, tmp_path)
    assert (profile.memory_bytes, profile.cpu_features, profile.accelerators) == (0, (), ())
    assert (profile.processor, profile.core_kinds, profile.power) == ("", (), "")
    assert (profile.memory_available_bytes, profile.throttle_permille) == (0, None)
    assert profile.cores >= 1


def test_this_machine_is_measured(tmp_path: Path) -> None:
    profile = probe.measure(tmp_path)
    assert 1 <= profile.cores <= len(os.sched_getaffinity(0))
    assert profile.memory_bytes > 256 * MIB


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", None), ("50000 100000", 1)])
def test_cores_are_what_affinity_and_quota_allow(
    tmp_path: Path, quota: str, cores: int | None
) -> None:
    device(tmp_path)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(quota)
    assert cpu.usable_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))
    assert probe.measure(tmp_path, 60, tmp_path).cpu_quota_milli == (500 if cores else 0)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert probe.memory_total(text) >= 0
    assert 0 < len(probe.os_name(text)) <= 128
    assert cpu.FEATURES.issuperset(cpu.features(text))


def test_free_is_what_an_ordinary_user_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reserved blocks are root's; blocks are counted in fragments (statvfs(3)).
    def numbers(_: Path) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=10, f_bfree=99, f_frsize=512, f_bsize=4096)

    monkeypatch.setattr(os, "statvfs", numbers)
    assert probe.disk_free(tmp_path) == 5120
