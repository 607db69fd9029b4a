"""Which model runs on which hardware class, in which variant, and why in no other. Pure.

The devices of a class differ in what people set and what is full: budgets and free disk. The matrix
speaks for all of them, so it judges the least that any of them has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sprat_proto import fit
from sprat_proto.rates import Rates

from sprat_controller.rollout.plan import verdict_json


@dataclass(frozen=True)
class HardwareClass:
    """Devices of equal hardware."""

    name: str
    devices: int
    example: str  # the name of one of them
    profile: fit.Profile  # the least that any of them has


@dataclass(frozen=True)
class ReleaseVariants:
    """A release, and all forms of it."""

    model: str
    release: str
    candidates: tuple[fit.Candidate, ...]
    # What classes were seen to do with them: by hardware class and digest.
    observed: Mapping[str, Mapping[str, Rates]] = field(
        default_factory=dict[str, Mapping[str, Rates]]
    )

    @property
    def name(self) -> str:
        """`model@release`."""
        return f"{self.model}@{self.release}"


@dataclass(frozen=True)
class Cell:
    """One release on one class."""

    hardware_class: str
    release: ReleaseVariants
    choice: fit.Choice


def least(profiles: Iterable[fit.Profile]) -> fit.Profile:
    """Return what all devices of a class have, of at least one.

    Their measurements differ by noise only; of those, the one in the middle speaks for the class.
    """
    known = list(profiles)
    measured = [one.measured for one in known if one.measured is not None]
    measured.sort(key=lambda one: (one.bandwidth, one.at_ms))
    return replace(
        known[0],
        memory_budget_bytes=min(one.memory_budget_bytes for one in known),
        disk_free_bytes=min(one.disk_free_bytes for one in known),
        measured=measured[len(measured) // 2] if measured else None,
    )


def matrix(
    classes: Sequence[HardwareClass], releases: Sequence[ReleaseVariants], terms: fit.Terms
) -> list[Cell]:
    """Return a cell for each class and release, class by class."""
    return [
        Cell(one.name, release, _choose(one, release, terms))
        for one in classes
        for release in releases
    ]


def _choose(one: HardwareClass, release: ReleaseVariants, terms: fit.Terms) -> fit.Choice:
    observed = release.observed.get(one.name, {})
    return fit.choose(release.candidates, one.profile, terms, observed)


def cell_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as it is answered."""
    chosen = cell.choice.chosen
    return {
        "hardware_class": cell.hardware_class,
        "model": cell.release.model,
        "release": cell.release.release,
        "chosen": chosen.variant if chosen else None,
        "digest": chosen.digest if chosen else None,
        "verdicts": [verdict_json(verdict) for verdict in cell.choice.verdicts],
    }


def release_json(one: ReleaseVariants) -> dict[str, Any]:
    """Return a release as it is answered."""
    variants = sorted(candidate.variant for candidate in one.candidates)
    return {"model": one.model, "release": one.release, "variants": variants}


def class_json(one: HardwareClass) -> dict[str, Any]:
    """Return a class as it is answered; sizes in bytes."""
    profile = one.profile
    return {
        "hardware_class": one.name,
        "devices": one.devices,
        "example": one.example,
        "simulated": profile.simulated,
        "arch": profile.arch,
        "processor": profile.processor,
        "cores": profile.cores,
        "memory_bytes": profile.memory_bytes,
        "memory_budget_bytes": profile.memory_budget_bytes,
        "is_measured": profile.measured is not None,
    }
