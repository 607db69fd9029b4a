"""What a device knows of its hardware is what its controller learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sprat_agent.sync.voice import hardware
from sprat_controller.link.inbound import profile_of
from sprat_proto.fit import CoreKind, Profile
from sprat_proto.rates import Measured, TypeCost
from sprat_proto.v1.link_pb2 import HardwareProfile

MEASURED = Measured(1, "llama.cpp 1", 2, 10**10, 1, 2, 3, (TypeCost("q4_0", 4, 5),), 6)
PROFILE = Profile(
    arch="aarch64",
    cores=4,
    cpu_features=("asimd",),
    memory_bytes=1,
    memory_budget_bytes=2,
    disk_free_bytes=3,
    accelerators=("dri/renderD128",),
    os="Linux",
    simulated=True,
    runtimes=("llama.cpp",),
    processor="Raspberry Pi 5",
    core_kinds=(CoreKind(4, 1024, 2400), CoreKind(2, 512)),
    cpu_quota_milli=3500,
    memory_limit_bytes=4,
    memory_available_bytes=5,
    throttle_permille=0,
    power="battery",
    measured=MEASURED,
)


@pytest.mark.parametrize(
    "profile", [PROFILE, replace(PROFILE, throttle_permille=None, measured=None, core_kinds=())]
)
def test_a_profile_arrives_as_it_was_told(profile: Profile) -> None:
    wire = HardwareProfile.FromString(hardware(profile).SerializeToString())
    assert profile_of(wire) == profile


@pytest.mark.parametrize(
    "profile",
    [
        replace(PROFILE, power="coal"),
        replace(PROFILE, throttle_permille=1001),
        replace(PROFILE, core_kinds=(CoreKind(1, 1024),) * 17),
        replace(PROFILE, core_kinds=(CoreKind(0, 1024),)),
        replace(PROFILE, core_kinds=(CoreKind(1, 1025),)),
        replace(PROFILE, measured=replace(MEASURED, costs=())),
        replace(PROFILE, measured=replace(MEASURED, costs=(TypeCost("q4_0", 0, 5),))),
        replace(PROFILE, measured=replace(MEASURED, costs=(TypeCost("q4_0", 4, 5),) * 2)),
        replace(PROFILE, measured=replace(MEASURED, costs=(TypeCost("Q4 0", 4, 5),))),
        replace(PROFILE, measured=replace(MEASURED, kv_fs=1 << 54)),
        replace(PROFILE, measured=replace(MEASURED, look_fs=1 << 54)),
        replace(PROFILE, measured=replace(MEASURED, bandwidth=0)),
        replace(PROFILE, memory_available_bytes=1 << 54),
    ],
)
def test_a_profile_beyond_its_limits_is_refused_whole(profile: Profile) -> None:
    assert profile_of(hardware(profile)) is None
