"""The three devices of the demo: hardware that is declared, not measured, and marked so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30


@dataclass(frozen=True)
class DemoDevice:
    """A device and the hardware it claims to be."""

    device_id: str
    label: str
    what: str
    profile: dict[str, Any]

    def write_profile(self, folder: Path) -> Path:
        """Write the declared profile for `sprat-agent run --declare-profile`."""
        path = folder / f"{self.device_id}.profile.json"
        path.write_text(json.dumps(self.profile, indent=2), encoding="utf-8")
        return path


def _profile(
    arch: str, cores: int, features: list[str], *, memory: int, budget: int
) -> dict[str, Any]:
    return {
        "arch": arch,
        "cores": cores,
        "cpu_features": features,
        "memory_bytes": memory,
        "memory_budget_bytes": budget,
        "disk_free_bytes": 4 * GIB,
        "accelerators": [],
        "os": "Linux",
        "runtimes": ["llama.cpp"],
    }


# The budgets stand just above what F16, Q5_1 and Q4_0 of the demo model need, its adapter too:
# of so small a model nearly all is the worker itself, 70 MiB.
DEVICES: Final = (
    DemoDevice(
        "gateway-1",
        "site=lyon",
        "an x86 gateway with room to spare",
        _profile("x86_64", 8, ["avx2", "fma"], memory=8 * GIB, budget=4 * GIB),
    ),
    DemoDevice(
        "kiosk-1",
        "site=lyon",
        "an ARM kiosk whose memory is mostly taken",
        _profile("aarch64", 4, ["neon", "dotprod"], memory=512 * MIB, budget=74 * MIB),
    ),
    DemoDevice(
        "sensor-1",
        "site=turin",
        "a small ARM sensor hub",
        _profile("aarch64", 2, ["neon"], memory=256 * MIB, budget=73 * MIB + 575 * KIB),
    ),
)
