"""A hardware profile as it is stored, and the class of devices that share it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import msgspec
from sprat_proto import canonical
from sprat_proto.fit import MIB, Profile

_CLASS_LENGTH: Final = 12  # hex digits: of a thousand classes, two alike once in 10^8 fleets


def to_json(profile: Profile) -> dict[str, Any]:
    """Return the profile as it stands in `Device.profile`."""
    return msgspec.to_builtins(profile)


def from_json(stored: Mapping[str, Any]) -> Profile:
    """Return a profile from its stored JSON; rows of old have only the first fields."""
    return msgspec.convert(stored, Profile)


def hardware_class(profile: Profile) -> str:
    """Return the short name of what does not change while a device lives.

    Devices of a class share what one of them measured of a model, so whatever a rate follows from
    is in it: which processor, which kinds of it, and the share of time that a control group gives.
    What changes from moment to moment is not, or a device would leave its class by growing warm:
    available memory and disk, heat, power. Nor are budgets, which people set, nor what the
    micro-benchmark found, which is a little different each time. Memory counts in whole MiB,
    because kernels reserve a few pages more or less from boot to boot.
    """
    facts = {
        "arch": profile.arch,
        "processor": profile.processor,
        "cores": profile.cores,
        "core_kinds": [asdict(kind) for kind in profile.core_kinds],
        "cpu_quota_milli": profile.cpu_quota_milli,
        "cpu_features": sorted(profile.cpu_features),
        "memory_mib": profile.memory_bytes // MIB,
        "accelerators": sorted(profile.accelerators),
        "runtimes": sorted(profile.runtimes),
        "simulated": profile.simulated,
    }
    return canonical.sha256_hex(canonical.encode(facts))[:_CLASS_LENGTH]
