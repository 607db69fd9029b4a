"""What a strategy says about time, as devices are told it. Pure."""

from __future__ import annotations

from datetime import datetime

from sprat_proto import windows
from sprat_proto.assignment import Windows
from sprat_proto.windows import WindowError

from sprat_controller.rollout.strategy import Strategy, WindowSpec


def windows_of(
    strategy: Strategy, start_at: datetime | None = None, *, is_way_back: bool = False
) -> Windows:
    """Return the windows of an assigned model.

    Args:
        strategy: The rollout's.
        start_at: Before which nothing begins.
        is_way_back: The execution returns a device to what it ran before.
    """
    return Windows(
        download=_told(strategy.download_window),
        activate=_told(strategy.activate_window),
        not_before=int(start_at.timestamp()) if start_at else 0,
        deadline=strategy.ends_at,
        override=bool(strategy.override),
        is_way_back=is_way_back,
    )


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
