"""How many requests a model answers at once, by the memory that nobody else wants. Pure."""

from __future__ import annotations

from typing import Final

MOST: Final = 8  # beyond, a processor answers them no faster together than in turn


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
