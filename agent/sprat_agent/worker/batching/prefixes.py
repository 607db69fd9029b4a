"""Where a prompt is computed, so that what was computed before is used again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Fewer tokens than these cost less to compute than to look after.
MIN_SHARED: Final = 16
# A prefix that another request is computing is waited for if it saves more than this.
MIN_AWAITED: Final = 32


@dataclass(frozen=True)
class Kept:
    """What a sequence holds: the tokens it is to hold, and how many of these it has computed."""

    sequence: int
    tokens: Sequence[int]
    computed: int
    is_busy: bool
    used: int  # rises with every use
    adapter: str = ""  # that computed them: with another they would be other keys and values


@dataclass(frozen=True)
class Place:
    """Compute in `sequence`, beginning with `shared` tokens that `source` holds already."""

    sequence: int
    source: int
    shared: int


def common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Return how many tokens, up to `most`, both begin with."""
    most = min(len(one), len(other), most)
    low, high = 0, most
    while low < high:  # by comparing slices, which costs a fraction of comparing in Python
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def place(
    prompt: Sequence[int], kept: Sequence[Kept], *, is_fresh: bool, adapter: str = ""
) -> Place | None:
    """Return where to compute a prompt; None: not now.

    Not now is when no sequence is free, or when another request is computing a prefix of this
    prompt, which is then copied instead of computed twice.

    Args:
        prompt: All its tokens. The last one is never shared: its logits are wanted.
        kept: All sequences.
        is_fresh: Share nothing.
        adapter: What computes the prompt; only what the same one computed is shared.
    """
    free = sorted((one for one in kept if not one.is_busy), key=lambda one: one.used)
    if not free:
        return None
    oldest = free[0].sequence
    usable = () if is_fresh else [one for one in kept if one.adapter == adapter]
    if not usable:
        return Place(oldest, oldest, 0)
    alike = [(common(one.tokens, prompt, len(prompt) - 1), one) for one in usable]
    shared, best = max(
        ((min(length, one.computed), one) for length, one in alike),
        key=lambda pair: (pair[0], not pair[1].is_busy),
    )
    coming = max((length for length, one in alike if one.is_busy), default=0)
    if coming >= shared + MIN_AWAITED:
        return None
    if shared < MIN_SHARED:
        return Place(oldest, oldest, 0)
    # A conversation goes on where it was; a prompt that shares little leaves the other's alone.
    goes_on = not best.is_busy and 2 * shared >= best.computed
    others = [one.sequence for one in free if one is not best]
    target = best.sequence if goes_on or not others else others[0]
    return Place(target, best.sequence, shared)
