"""What a strategy says about time, as devices are told it. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sprat_proto import windows
from sprat_proto.assignment import AT_ANY_TIME, Windows
from sprat_proto.windows import WindowError

from sprat_controller.rollout.strategy import Strategy, WindowSpec


def windows_of(strategy: Strategy, *, is_way_back: bool = False) -> Windows:
    """Return the windows of an assigned model, which are also those that are approved.

    An emergency has none. That a device goes back is said only where windows could hold it: agents
    that do not know windows are told nothing that they would refuse. Nor is a time to start at
    told: nothing is given out before it.

    Args:
        strategy: Of the rollout that brings, or brought, the model.
        is_way_back: The execution returns a device to what it ran before.
    """
    if strategy.override:
        return AT_ANY_TIME
    told = Windows(
        download=_told(strategy.download_window),
        activate=_told(strategy.activate_window),
        deadline=strategy.ends_at,
    )
    is_held = is_way_back and told != AT_ANY_TIME
    return msgspec.structs.replace(told, is_way_back=True) if is_held else told


def fault(strategy: Strategy, now: datetime) -> str | None:
    """Return what is wrong with the windows that are asked, in one sentence; None if nothing."""
    asked = {
        "download window": strategy.download_window,
        "activate window": strategy.activate_window,
    }
    for name, spec in asked.items():
        told = _told(spec)
        if told is None:
            continue
        try:
            window = windows.parse(told)
        except WindowError as error:
            return f"the {name}: {error}"
        if windows.next_open(window, now) is None:
            return f"the {name}: expected one that opens, found {told.cron!r}, which never does"
    return None


def _told(spec: WindowSpec | None) -> windows.WindowSpec | None:
    if spec is None:
        return None
    return windows.WindowSpec(cron=spec.cron, duration_s=spec.duration_s, zone=spec.zone)
