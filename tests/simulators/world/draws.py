"""Chance by counting: a draw depends on the seed, its purpose, the device and the try. Pure.

SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over whole columns. Two draws never depend on which of
them was asked for first, so that changing the order of events changes no device's fate.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
_Words: TypeAlias = NDArray[np.uint64]

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_MASK: Final = (1 << 64) - 1
_PURPOSES: Final = 64  # more than there are, so that a new one changes no seed


class Purpose(IntEnum):
    """What a draw decides. The numbers are part of what a seed means: add, never renumber."""

    SITE = 1
    HARDWARE_CLASS = 2
    SLOW = 3
    OFFLINE = 4
    OFFLINE_FOR = 5
    FLAPPING = 6
    FLAP_PHASE = 7
    SKEW = 8
    SKEW_BY = 9
    REJECTS = 10
    CRASH = 11
    CORRUPT = 12
    FALLBACK = 13
    DOWNLOAD_S = 14
    WORK_S = 15
    SCORE = 16
    RETRY_AFTER = 17
    LATE = 18
    LATE_BY = 19
    SPEED = 20
    REQUESTS = 21
    PEAK = 22
    CUT_OFF = 23


def uniform(seed: int, purpose: Purpose, devices: Ints, tries: Ints | None = None) -> Floats:
    """Return numbers from 0 (included) to 1 (excluded), one for each device.

    Args:
        seed: The world's.
        purpose: What is decided.
        devices: Numbers of devices.
        tries: Which try of each device it is; None: drawn once in a device's life.
    """
    words = devices.astype(np.uint64)
    if tries is not None:
        words = words ^ (tries.astype(np.uint64) << np.uint64(40))
    start = np.uint64(((seed * _PURPOSES + purpose) * int(_GAMMA)) & _MASK)
    mixed = _mix(_mix(words + _mix(np.full(1, start))) + start)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(words: _Words) -> _Words:
    mixed = words + _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))
