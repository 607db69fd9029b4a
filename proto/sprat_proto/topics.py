"""MQTT topics, built and parsed in this one place.

    sprat/v1/devices/{id}/up               DeviceMessage, QoS 1
    sprat/v1/devices/{id}/up/presence      "online" or, by Last Will, "offline"; retained
    sprat/v1/devices/{id}/down             ControllerMessage, QoS 1
    sprat/v1/devices/{id}/down/assignment  ControllerMessage with the newest assignment; retained

Retention makes a lost assignment heal at the next subscription; it needs no trust, since the
assignment is signed, versioned and names its device.
"""

from __future__ import annotations

import re
from typing import Final

_PREFIX: Final = "sprat/v1/devices"
_DEVICE_ID: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"


def is_device_id(text: str) -> bool:
    """Tell whether `text` may name a device: 1-64 of a-z, 0-9 and inner hyphens.

    No character of it has a meaning in a topic, a certificate name, a path or a shell.
    """
    return _DEVICE_ID.fullmatch(text) is not None


def up(device_id: str) -> str:
    """Return where the device speaks."""
    return f"{_PREFIX}/{device_id}/up"


def presence(device_id: str) -> str:
    """Return where the device's presence is kept."""
    return f"{_PREFIX}/{device_id}/up/presence"


def down(device_id: str) -> str:
    """Return where the device is spoken to."""
    return f"{_PREFIX}/{device_id}/down"


def assignment(device_id: str) -> str:
    """Return where the device's newest assignment is kept."""
    return f"{_PREFIX}/{device_id}/down/assignment"


def all_up(group: str) -> str:
    """Return one shared subscription for all replicas of the controller: each hears a part.

    Args:
        group: A secret of the controllers. Mosquitto lets anybody into a group that it knows the
            name of, gives it its part and drops that, for access is decided at delivery: a device
            in the group would take its part of all devices' words away.
    """
    return f"$share/{group}/{_PREFIX}/+/up/#"


def device_of(topic: str) -> str | None:
    """Return the device that a topic belongs to, or None for a topic that is not ours."""
    prefix, _, rest = topic.partition(f"{_PREFIX}/")
    device_id, _, direction = rest.partition("/")
    if prefix or not is_device_id(device_id) or not direction:
        return None
    return device_id
