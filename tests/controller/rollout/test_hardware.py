"""A stored profile can always be read again, and a class is of what stays."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sprat_controller.rollout.hardware import from_json, hardware_class, to_json
from sprat_proto.fit import MIB, CoreKind, Profile
from sprat_proto.rates import Measured, TypeCost

MEASURED = Measured(1, "llama.cpp 1", 2, 10**10, 1, 2, 3, (TypeCost("q4_0", 4, 5),))
PROFILE = Profile(
    arch="aarch64",
    cores=4,
    cpu_features=("asimd",),
    memory_bytes=4096 * MIB,
    memory_budget_bytes=2048 * MIB,
    disk_free_bytes=8192 * MIB,
    accelerators=(),
    os="Linux",
    simulated=False,
    runtimes=("llama.cpp",),
    processor="Raspberry Pi 5",
    core_kinds=(CoreKind(4, 1024, 2400),),
    cpu_quota_milli=3500,
    memory_limit_bytes=1,
    memory_available_bytes=2,
    throttle_permille=3,
    power="mains",
    measured=MEASURED,
)
# As rows are that were stored before there was more to tell.
OF_OLD = {
    "arch": "x86_64",
    "cores": 2,
    "cpu_features": ["avx2"],
    "memory_bytes": 1,
    "memory_budget_bytes": 2,
    "disk_free_bytes": 3,
    "accelerators": [],
    "os": "Linux",
    "simulated": False,
    "runtimes": ["llama.cpp"],
}


def test_a_profile_comes_back_from_its_row() -> None:
    assert from_json(json.loads(json.dumps(to_json(PROFILE)))) == PROFILE
    bare = replace(PROFILE, core_kinds=(), throttle_permille=None, measured=None)
    assert from_json(json.loads(json.dumps(to_json(bare)))) == bare


def test_a_row_of_old_can_be_read() -> None:
    profile = from_json(OF_OLD)
    assert (profile.cpu_features, profile.runtimes) == (("avx2",), ("llama.cpp",))
    assert (profile.processor, profile.core_kinds, profile.measured) == ("", (), None)
    assert profile.throttle_permille is None


@pytest.mark.parametrize(
    "other",
    [
        replace(PROFILE, processor="Raspberry Pi 4"),
        replace(PROFILE, core_kinds=(CoreKind(4, 1024, 2800),)),
        replace(PROFILE, cpu_quota_milli=0),
        replace(PROFILE, cores=3),
        replace(PROFILE, simulated=True),
    ],
)
def test_a_class_is_of_what_a_rate_follows_from(other: Profile) -> None:
    assert hardware_class(other) != hardware_class(PROFILE)


@pytest.mark.parametrize(
    "other",
    [
        replace(PROFILE, memory_available_bytes=9),
        replace(PROFILE, throttle_permille=900),
        replace(PROFILE, power="battery"),
        replace(PROFILE, measured=None),
        replace(PROFILE, disk_free_bytes=0, memory_budget_bytes=1),
        replace(PROFILE, memory_bytes=PROFILE.memory_bytes + 4096),
    ],
)
def test_no_device_leaves_its_class_from_one_moment_to_the_next(other: Profile) -> None:
    assert hardware_class(other) == hardware_class(PROFILE)
