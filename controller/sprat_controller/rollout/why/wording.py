"""What answers say of devices, groups and moments. Pure."""

from __future__ import annotations

from datetime import datetime

from sprat_controller.rollout.why.known import AliasAt, DeviceAt, GroupAt, RolloutAt


def because(rollout: RolloutAt) -> str:
    """Return why a rollout does not go on, or did not start; empty: nobody said."""
    why = rollout.aborted or rollout.held_back
    return f": {why}" if why else ""


def meanwhile(alias: AliasAt) -> str:
    """Return what the device runs until then."""
    return f"; it runs {alias.runs}" if alias.runs else ""


def also_away(device: DeviceAt) -> str:
    """Return that the device is away, beside what holds it."""
    return "" if device.is_online else f" (it {silent(device)})"


def silent(device: DeviceAt) -> str:
    """Return since when nothing was heard of a device."""
    if device.last_seen_at is None:
        return "was never heard of"
    return f"was not heard of since {minute(device.last_seen_at)}"


def name(group: GroupAt) -> str:
    """Return a group's number, and its name if it has one."""
    number = str(group.number)
    return number if group.name in ("", number) else f"{number} ({group.name})"


def minute(moment: datetime) -> str:
    """Return a moment to the minute."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
