"""A hardware profile as it is stored, and the class of devices that share it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from sprat_proto import canonical
from sprat_proto.fit import MIB, Profile

_LISTS: Final = ("cpu_features", "accelerators", "runtimes")
_CLASS_LENGTH: Final = 12  # hex digits: of a thousand classes, two alike once in 10^8 fleets


def to_json(profile: Profile) -> dict[str, Any]:
    """Return the profile as it stands in `Device.profile`."""
    return {**asdict(profile), **{name: [*getattr(profile, name)] for name in _LISTS}}


def from_json(stored: Mapping[str, Any]) -> Profile:
    """Return a profile from its stored JSON."""
    values: dict[str, Any] = {**stored, **{name: tuple(stored[name]) for name in _LISTS}}
    return Profile(**values)


def hardware_class(profile: Profile) -> str:
    """Return the short name of what does not change while a device lives.

    Budgets and free space are not in it; memory counts in whole MiB, because kernels reserve a few
    pages more or less from boot to boot.
    """
    facts = {
        "arch": profile.arch,
        "cores": profile.cores,
        "cpu_features": sorted(profile.cpu_features),
        "memory_mib": profile.memory_bytes // MIB,
        "accelerators": sorted(profile.accelerators),
        "runtimes": sorted(profile.runtimes),
        "simulated": profile.simulated,
    }
    return canonical.sha256_hex(canonical.encode(facts))[:_CLASS_LENGTH]
