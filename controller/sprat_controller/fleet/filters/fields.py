"""What a filter can ask of a device: the fields, and the facts that answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

LABEL_KEY: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}")
_LABEL: Final = "label."
# The one label that a filter may name without saying that it is one.
SITE: Final = "site"


class Kind(StrEnum):
    """What a field holds, and so what may be asked of it."""

    TEXT = "text"  # '' where it is not known
    LABEL = "label"
    COUNT = "whole number"
    SIZE = "size"  # bytes
    SET = "set of names"
    FLAG = "yes or no"


@dataclass(frozen=True)
class Field:
    """Something that can be asked of a device.

    Attributes:
        name: As it is said; of a label the key.
        kind: What it holds.
    """

    name: str
    kind: Kind

    @property
    def said(self) -> str:
        """As a filter says it."""
        is_plain = self.kind is not Kind.LABEL or self.name == SITE
        return self.name if is_plain else f"{_LABEL}{self.name}"

    @property
    def is_number(self) -> bool:
        """It can be less and more."""
        return self.kind in (Kind.COUNT, Kind.SIZE)


@dataclass(frozen=True)
class Facts:
    """What is known of a device when a filter is asked; None and empty: not known."""

    device: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    state: str = ""
    group: str = ""
    hardware_class: str = ""
    agent_version: str = ""
    capability: int = 0
    online: bool = False
    simulated: bool = False
    # Of the profile; sizes in bytes.
    arch: str = ""
    os: str = ""
    processor: str = ""
    power: str = ""
    cores: int | None = None
    memory: int | None = None
    memory_budget: int | None = None
    disk_free: int | None = None
    cpu_features: tuple[str, ...] = ()
    accelerators: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()

    @property
    def site(self) -> str:
        """Its label `site`; empty: it has none."""
        return self.labels.get(SITE, "")


_KINDS: Final[Mapping[str, Kind]] = {
    "device": Kind.TEXT,
    "state": Kind.TEXT,
    "group": Kind.TEXT,
    "hardware_class": Kind.TEXT,
    "agent_version": Kind.TEXT,
    "capability": Kind.COUNT,
    "online": Kind.FLAG,
    "simulated": Kind.FLAG,
    "arch": Kind.TEXT,
    "os": Kind.TEXT,
    "processor": Kind.TEXT,
    "power": Kind.TEXT,
    "cores": Kind.COUNT,
    "memory": Kind.SIZE,
    "memory_budget": Kind.SIZE,
    "disk_free": Kind.SIZE,
    "cpu_features": Kind.SET,
    "accelerators": Kind.SET,
    "runtimes": Kind.SET,
}
FIELDS: Final[Mapping[str, Field]] = {
    SITE: Field(SITE, Kind.LABEL),
    **{name: Field(name, kind) for name, kind in _KINDS.items()},
}
# As the profile and the API call them.
_ALSO: Final[Mapping[str, str]] = {
    "id": "device",
    "memory_bytes": "memory",
    "memory_budget_bytes": "memory_budget",
    "disk_free_bytes": "disk_free",
}
# What `has(NAME)` looks into.
ABILITIES: Final = ("cpu_features", "accelerators", "runtimes")


def named(word: str) -> Field | None:
    """Return the field of this name; None: there is none, or no label can have this key."""
    if word.startswith(_LABEL):
        key = word.removeprefix(_LABEL)
        return Field(key, Kind.LABEL) if LABEL_KEY.fullmatch(key) else None
    return FIELDS.get(_ALSO.get(word, word))
