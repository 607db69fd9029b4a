"""How reasons say their numbers: exactly, so that two that differ never look alike. Pure."""

from __future__ import annotations

from typing import Final

_MIB: Final = 1 << 20


def thousandths(count: int) -> str:
    """Return thousandths of something as a decimal: 12345 as `12.345`, 4500 as `4.5`."""
    return _decimal(count, 3)


def percent(millionths: int) -> str:
    """Return millionths of a whole as `2.1 %`."""
    return f"{_decimal(millionths, 4)} %"


def least(size: int) -> str:
    """Return bytes that are needed, rounded up."""
    return f"{-(-size // _MIB)} MiB"


def most(size: int) -> str:
    """Return bytes that there are, rounded down: below `least` of all that is larger."""
    return f"{size // _MIB} MiB"


def exactly(size: int) -> str:
    """Return bytes to the last one."""
    return f"{size} bytes" if size % _MIB else f"{size // _MIB} MiB"


def apart(one: int, other: int) -> tuple[str, str]:
    """Return two sizes: in bytes where whole MiB would look alike."""
    said = least(one), least(other)
    return said if said[0] != said[1] or one == other else (f"{one} bytes", f"{other} bytes")


def _decimal(count: int, digits: int) -> str:
    whole, part = divmod(count, 10**digits)
    return f"{whole}.{part:0{digits}d}".rstrip("0").rstrip(".")
