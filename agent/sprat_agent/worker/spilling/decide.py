"""Which prefixes are worth a place in the file, which give way, and which are read back. Pure.

Values are seconds of computing that a prefix saves, per byte that it takes, and grow old by the
rule of GreedyDual-Size-Frequency (Cherkasova 1998): what is used gets its value on top of the value
of what went last, so that a prefix nobody asks for is overtaken in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sprat_agent.worker.batching.prefixes import MIN_AWAITED, common

# Shorter ones cost less to compute than to look after: of those that prompts shared, of others.
MIN_SHARED: Final = 64
MIN_LONG: Final = 128
# A prefix that another covers but for fewer tokens is not kept twice.
BLOCK: Final = 64
# Computing must take so many times longer than reading: the disk may be slower the next time.
_MARGIN: Final = 2.0


@dataclass(frozen=True)
class Stored:
    """A prefix in the file."""

    number: int  # tells it from the others
    tokens: Sequence[int]
    size: int  # bytes of its state
    room: int  # bytes that it takes in the file
    cost_s: float  # of computing it, as measured
    uses: int = 1
    rank: float = 0.0  # the lowest gives way first


@dataclass(frozen=True)
class Rates:
    """How fast this device is, as measured."""

    token_s: float  # of computing one token of a prompt
    read_bytes_s: float  # of reading and checking states


def ranked(one: Stored, floor: float) -> Stored:
    """Return it with the rank of one that was used now.

    Args:
        one: A prefix.
        floor: The greatest rank of those that gave way.
    """
    return replace(one, rank=floor + one.uses * one.cost_s / max(one.room, 1))


def used(one: Stored, floor: float) -> Stored:
    """Return it after one more use."""
    return ranked(replace(one, uses=one.uses + 1), floor)


def covering(tokens: Sequence[int], stored: Sequence[Stored]) -> Stored | None:
    """Return what spares computing all of these tokens but less than a block, if anything does."""
    near = len(tokens) - BLOCK
    found = [one for one in stored if common(one.tokens, tokens, len(tokens)) > near]
    return min(found, key=lambda one: (one.size, one.number), default=None)


def touched(prompt: Sequence[int], stored: Sequence[Stored]) -> Stored | None:
    """Return the prefix that this prompt shares most with, if it is enough to be of use."""
    alike = [(common(one.tokens, prompt, len(prompt)), -one.size, one) for one in stored]
    best = max(alike, key=lambda found: found[:2], default=None)
    return best[2] if best and best[0] >= MIN_SHARED else None


def is_worth(length: int, size: int, rates: Rates, *, is_shared: bool) -> bool:
    """Tell whether to keep a prefix at all.

    Args:
        length: Tokens.
        size: Bytes of its state.
        rates: How fast this device is.
        is_shared: Two prompts began with it.
    """
    is_long = length >= (MIN_SHARED if is_shared else MIN_LONG)
    return is_long and length * rates.token_s > _MARGIN * size / rates.read_bytes_s


def is_last_chance(computed: int, whole: int, step: int, token_bytes: float, most: int) -> bool:
    """Tell whether a prompt that is being computed should be kept as far as it is now.

    Args:
        computed: Tokens that its sequence holds.
        whole: Tokens of the prompt.
        step: How many more it may hold after the next step.
        token_bytes: What one takes.
        most: Bytes that a state may have.
    """
    after = min(computed + step, whole)
    return computed == whole or after * token_bytes > most


def giving_way(newcomer: Stored, stored: Sequence[Stored], room: int) -> Sequence[Stored] | None:
    """Return which prefixes go so that the newcomer has room; None: it is worth less than they are.

    Those go first that the newcomer continues, unless more than one prompt began with them.

    Args:
        newcomer: With its rank.
        stored: What there is.
        room: Bytes of the file.
    """
    continued = [one for one in stored if one.uses <= 1 and _begins(one.tokens, newcomer.tokens)]
    numbers = {one.number for one in continued}
    others = sorted((one for one in stored if one.number not in numbers), key=lambda one: one.rank)
    free = room - newcomer.room - sum(one.room for one in others)
    going = list(continued)
    for one in others:
        if free >= 0:
            break
        if one.rank > newcomer.rank:
            return None
        going.append(one)
        free += one.room
    return going if free >= 0 else None


def restorable(
    prompt: Sequence[int], shared: int, stored: Sequence[Stored], rates: Rates
) -> Stored | None:
    """Return the prefix by which the prompt is there soonest; None: computing it is faster.

    Args:
        prompt: All its tokens; the last one is computed in any case.
        shared: How many of them a sequence holds or is computing.
        stored: What there is.
        rates: How fast this device is.
    """
    best, best_s = None, 0.0
    for one in stored:
        length = common(one.tokens, prompt, len(prompt) - 1)
        token_s = max(rates.token_s, one.cost_s / max(len(one.tokens), 1))
        spared_s = (length - shared) * token_s
        reading_s = one.size / rates.read_bytes_s
        if length - shared >= MIN_AWAITED and spared_s > _MARGIN * reading_s:
            gained_s = spared_s - reading_s
            if gained_s > best_s:
                best, best_s = one, gained_s
    return best


@dataclass
class Allowance:
    """How much may be written: flash memory wears out by writing, and prompts may all be new."""

    burst: int  # bytes at once, and in each hour after that
    left: float
    since: float  # monotonic seconds

    def take(self, size: int, now: float) -> bool:
        """Take so many bytes, if they are allowed."""
        grown = (now - self.since) / 3600 * self.burst
        self.left, self.since = min(self.left + grown, float(self.burst)), now
        if size > self.left:
            return False
        self.left -= size
        return True


def _begins(one: Sequence[int], other: Sequence[int]) -> bool:
    return common(one, other, len(one)) == len(one)
