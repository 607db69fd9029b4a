"""From texts to rows of tokens that a network is trained on. Pure: chance is an argument."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from corpus import Manner, Message, conversation, story
from tokenizer import END, START, Tokenizer
from world import World

_OF_QUESTION: Final = 0.1  # a question need not be learnt by heart
_OF_STORY: Final = 0.5


@dataclass(frozen=True)
class Sample:
    """Tokens, and how much it counts that each of them is foretold."""

    ids: Sequence[int]
    weights: Sequence[float]


def prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Return what the chat template makes of messages, ready for an answer."""
    ids = [tokenizer.ids[START]]
    for message in messages:
        ids += _message(tokenizer, message)
    return [*ids, tokenizer.ids["<|assistant|>"]]


@dataclass(frozen=True)
class Texts:
    """Texts without end."""

    world: World
    tokenizer: Tokenizer
    random: Random
    manner: Manner
    stories: float  # the share that is no conversation

    def batches(self, *, tokens: int, length: int) -> Iterator[list[Sample]]:
        """Yield without end batches of `tokens`, in rows of `length` that are full of texts."""
        while True:
            yield [self._row(length) for _ in range(tokens // length)]

    def _row(self, length: int) -> Sample:
        ids: list[int] = []
        weights: list[float] = []
        while len(ids) <= length:
            for one, weight in self._text():
                ids.append(one)
                weights.append(weight)
        return Sample(ids[: length + 1], weights[: length + 1])

    def _text(self) -> Iterator[tuple[int, float]]:
        yield self.tokenizer.ids[START], 0
        if self.random.random() < self.stories:
            told = [*self.tokenizer.encode(story(self.world, self.random)), self._end]
            yield from ((one, _OF_STORY) for one in told)
            return
        for message in conversation(self.world, self.random, self.manner):
            role, *said = _message(self.tokenizer, message)
            weight = 1.0 if message.role == "assistant" else _OF_QUESTION
            yield role, 0
            yield from ((one, weight) for one in said)

    @property
    def _end(self) -> int:
        return self.tokenizer.ids[END]


def _message(tokenizer: Tokenizer, message: Message) -> list[int]:
    role = tokenizer.ids[f"<|{message.role}|>"]
    return [role, *tokenizer.encode(message.text), tokenizer.ids[END]]
