"""Which request goes next, how long a new one would wait, and when it is better refused. Pure.

The agent never loads a tokenizer, so a prompt's tokens are estimated from its characters until the
worker has counted them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

# A batch request yields to interactive ones that arrive up to so much later, and to no others: it
# is never starved.
BATCH_YIELDS_S: Final = 60.0
CHARACTERS_PER_TOKEN: Final = 4  # of English, in the vocabularies of the models in use
RETRY_AFTER_S: Final = (1, 600)
_WEIGHT: Final = 0.25  # of the newest measurement

Rank: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Pace:
    """How fast one model answers on this device: moving averages over its answers.

    Before the first answer it is a cautious guess for a small processor.
    """

    prefill_tps: float = 50.0  # tokens of prompts a second
    decode_tps: float = 10.0  # tokens a second of one answer
    answer_tokens: float = 128.0  # length of an answer
    is_measured: bool = False

    def after(
        self, prompt_tokens: int, prefill_ms: float, completion_tokens: int, decode_ms: float
    ) -> Pace:
        """Return the pace with one more answer in it.

        Args:
            prompt_tokens: Those that were computed, without the cached ones.
            prefill_ms: What that took.
            completion_tokens: The answer's length.
            decode_ms: What that took.
        """
        return Pace(
            self._average(self.prefill_tps, _rate(prompt_tokens, prefill_ms)),
            self._average(self.decode_tps, _rate(completion_tokens, decode_ms)),
            self._average(self.answer_tokens, float(completion_tokens) or None),
            is_measured=True,
        )

    def _average(self, before: float, measured: float | None) -> float:
        if measured is None:
            return before
        return before + (measured - before) * (_WEIGHT if self.is_measured else 1.0)


@dataclass(frozen=True)
class Work:
    """What a request asks of a model, in tokens; `most` is its own limit for the answer."""

    prompt_tokens: int
    most: int | None = None

    def decode_tokens(self, pace: Pace) -> float:
        """Return how long its answer is likely to be."""
        return pace.answer_tokens if self.most is None else min(self.most, pace.answer_tokens)


@dataclass(frozen=True)
class Place:
    """Where a request stands in its queue."""

    arrived: float  # seconds, any clock
    is_batch: bool = False

    @property
    def rank(self) -> Rank:
        """The request of the lowest rank goes first."""
        return self.arrived + (BATCH_YIELDS_S if self.is_batch else 0.0), self.arrived


@dataclass(frozen=True)
class QueueFull:
    """The request is not taken."""

    wait_s: float
    retry_after_s: int


_Key = TypeVar("_Key")


def in_order(waiting: Iterable[tuple[Place, _Key]]) -> list[_Key]:
    """Return what waits in the order it is served: equals in the order given."""
    return [key for _, key in sorted(waiting, key=lambda one: one[0].rank)]


def estimated_tokens(characters: int) -> int:
    """Return about how many tokens a text of so many characters has."""
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def predicted_wait_s(ahead: Iterable[Work], pace: Pace, slots: int) -> float:
    """Return how long the requests ahead take: prompts one after the other, answers side by side.

    Args:
        ahead: What is served before.
        pace: Of the model that answers.
        slots: How many requests it answers at once.
    """
    works = list(ahead)
    prefill_s = sum(one.prompt_tokens for one in works) / pace.prefill_tps
    decode_s = sum(one.decode_tokens(pace) for one in works) / pace.decode_tps
    return prefill_s + decode_s / max(slots, 1)


def admit(
    ahead: Sequence[Work],
    pace: Pace,
    slots: int,
    *,
    queued: int,
    max_queued: int,
    max_wait_s: float,
) -> QueueFull | None:
    """Tell whether a request may wait: None, or after how long it may be asked again.

    Args:
        ahead: What is served before it, the answers under way included.
        pace: Of the model that answers.
        slots: How many requests it answers at once.
        queued: How many wait already, of any priority.
        max_queued: How many may.
        max_wait_s: How long the request may have to wait.
    """
    wait_s = predicted_wait_s(ahead, pace, slots)
    if queued < max_queued and wait_s <= max_wait_s:
        return None
    return QueueFull(wait_s, retry_after_s(wait_s))


def retry_after_s(wait_s: float) -> int:
    """Return a wait as the header Retry-After says it: whole seconds, none of them absurd."""
    shortest, longest = RETRY_AFTER_S
    return max(shortest, math.ceil(min(wait_s, longest)))


def _rate(tokens: int, milliseconds: float) -> float | None:
    """Return tokens a second, or None where nothing was measured."""
    return tokens * 1000 / milliseconds if tokens > 0 and milliseconds > 0 else None
