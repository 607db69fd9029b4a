"""What size of model a number of parameters makes, in words that fleets sort by. Pure.

    tiny     fewer than 100 million     keyword spotting, classification
    micro    fewer than 1.5 billion     single-board computers
    small    fewer than 14 billion      gateways, laptops
    medium   up to 30 billion           workstations
    large    more than 30 billion       servers

Each class begins where the one before it ends. A model of exactly 30 billion is medium: people say
"14 to 30 B" and mean both.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class SizeClass(StrEnum):
    """The classes, from the smallest on."""

    TINY = "tiny"
    MICRO = "micro"
    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


# The first number of parameters that is too many for the class.
BOUNDS: Final = (
    (SizeClass.TINY, 100_000_000),
    (SizeClass.MICRO, 1_500_000_000),
    (SizeClass.SMALL, 14_000_000_000),
    (SizeClass.MEDIUM, 30_000_000_001),
)


def size_class(parameters: int) -> SizeClass:
    """Return the class of a model.

    Args:
        parameters: Its weights of all layers and experts, not those that one token uses.

    Raises:
        ValueError: It has fewer than none.
    """
    if parameters < 0:
        raise ValueError(f"expected a number of parameters of 0 or more, found {parameters}")
    return next((name for name, bound in BOUNDS if parameters < bound), SizeClass.LARGE)
