"""The device's own figures: the local API tells them, others know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sprat_agent.api.tally import Tally
from sprat_agent.kept import Kept


@dataclass(frozen=True)
class DeviceFigures:
    """How the device is at one moment.

    Attributes:
        memory_budget_bytes: What all models may take together.
        sync_age_s: Since the controller last said anything; since the agent's start, before that.
        kept: What waits for the controller, by kind.
        throttle_ratio: See `profile.thermal`; None where this device does not say.
        tally: What happened since the agent's start.
    """

    memory_budget_bytes: int
    sync_age_s: float
    kept: Mapping[str, Kept] = field(default_factory=dict[str, Kept])
    throttle_ratio: float | None = None
    tally: Tally = field(default_factory=Tally)


# Reads them as they are now; it may block on the disk, and changes nothing.
ReadDevice: TypeAlias = Callable[[], DeviceFigures]
