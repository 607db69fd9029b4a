"""What the device runs on: kernel documentation, power_supply sysfs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MAINS: Final = "mains"
BATTERY: Final = "battery"
_SUPPLIES: Final = "sys/class/power_supply/*"
_DISCHARGING: Final = "Discharging"
_FED: Final = frozenset({"Charging", "Full", "Not charging"})
_OF_ANOTHER: Final = "Device"  # a mouse's, say


def source(root: Path = Path("/")) -> str:
    """Return `mains` or `battery`; empty: no supply tells, as on most boards and servers."""
    supplies = [folder for folder in root.glob(_SUPPLIES) if _text(folder / "scope") != _OF_ANOTHER]
    batteries = [one for one in supplies if _text(one / "type") == "Battery"]
    others = [one for one in supplies if one not in batteries]
    states = {_text(one / "status") for one in batteries}
    if any(_text(one / "online") not in {"", "0"} for one in others) or states & _FED:
        return MAINS
    return BATTERY if _DISCHARGING in states else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""  # not every supply has every file
