"""How much the kernel slows the processors for their heat (kernel documentation, thermal sysfs)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_DEVICES: Final = "sys/class/thermal/cooling_device*"
# `Processor` on ACPI; `cpufreq-cpu0`, `thermal-cpufreq-0` and the like on device trees.
_OF_PROCESSORS: Final = ("processor", "cpufreq")


def throttle_ratio(root: Path = Path("/")) -> float | None:
    """Return 0 (not slowed) to 1 (as slow as it can), of the processor that is slowed most.

    None where no processor is a cooling device: the kernel does not slow it, or does not say.
    """
    ratios = [_ratio(folder) for folder in root.glob(_DEVICES) if _is_processor(folder)]
    return max((one for one in ratios if one is not None), default=None)


def _is_processor(folder: Path) -> bool:
    kind = _text(folder / "type").lower()
    return any(name in kind for name in _OF_PROCESSORS)


def _ratio(folder: Path) -> float | None:
    now, most = _text(folder / "cur_state"), _text(folder / "max_state")
    if not (now.isdecimal() and most.isdecimal() and int(most)):
        return None
    return min(int(now) / int(most), 1.0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""  # not every device has every file
