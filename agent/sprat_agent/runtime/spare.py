"""What a model gets of the memory that nobody else wants: slots, and room for copies. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST: Final = 8  # beyond, a processor answers them no faster together than in turn
_COPIES_SHARE: Final = 8  # copies take at most this part of what is free
_MOST_COPIES: Final = 128 << 20


@dataclass(frozen=True)
class Spare:
    """What a model gets beyond what it must have."""

    slots: int = 0
    copy_bytes: int = 0  # for copies of prefixes of prompts


def extra_slots(free_bytes: int, slot_bytes: int, most: int = MOST) -> int:
    """Return how many slots a model gets besides its first one.

    They take at most half of what is free: the next model that comes here finds room for itself.
    A model has them only while it is in memory, and gets as many anew when it comes back.

    Args:
        free_bytes: Of the budget, once every model of this device is in memory with its first slot,
            and a new release beside this one.
        slot_bytes: What the context of one more slot takes.
        most: Slots that a model may have.
    """
    if slot_bytes <= 0:
        return most - 1
    return max(0, min(most - 1, free_bytes // 2 // slot_bytes))


def copy_bytes(free_bytes: int, context_bytes: int) -> int:
    """Return how much memory copies of a prefix may take on its way to a file and back.

    A prefix is there twice beside the engine's own: as it is in the file, and as the engine reads
    it. Copies take at most an eighth of what is free; prefixes for which that is too little are not
    kept.

    Args:
        free_bytes: Of the budget, after the model's slots.
        context_bytes: Keys and values of one context.
    """
    return max(0, min(_MOST_COPIES, 2 * context_bytes, free_bytes // _COPIES_SHARE))
