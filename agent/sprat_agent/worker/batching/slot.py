"""A sequence of the model, and the answer that is being made in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sprat_agent.runtime.wire import Done, Request
from sprat_agent.worker.batching import lookup
from sprat_agent.worker.batching.backend import Sampler
from sprat_agent.worker.batching.batch import Pending
from sprat_agent.worker.batching.lookup import Worth
from sprat_agent.worker.batching.prefixes import Kept
from sprat_agent.worker.decoding.decoding import Decoding

Finish: TypeAlias = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True)
class Asked:
    """A request whose prompt is known."""

    id: int
    request: Request
    prompt: list[int]
    limit: int  # tokens that the answer may have


@dataclass
class Making:
    """An answer in the making."""

    asked: Asked
    decoding: Decoding
    sampler: Sampler | None
    cached: int  # tokens of the prompt that were not computed again
    began: float  # monotonic seconds, as all moments here
    first: float | None = None  # when the first token came
    count: int = 0  # tokens that came
    drafted: int = 0  # tokens that were guessed
    worth: Worth = field(default_factory=Worth)  # of guessing

    def done(self, finish: Finish, now: float) -> Done:
        """Return how it ended."""
        first = now if self.first is None else self.first
        return Done(
            id=self.asked.id,
            finish=finish,
            prompt_tokens=len(self.asked.prompt),
            completion_tokens=self.count,
            prefill_ms=(first - self.began) * 1000,
            decode_ms=(now - first) * 1000,
            cached_tokens=self.cached,
            drafted_tokens=self.drafted,
            stopped_by=self.decoding.stopped_by if finish == "stop" else "",
        )


@dataclass
class Slot:
    """One sequence; it keeps what it holds for the next prompt that begins alike."""

    sequence: int
    tokens: list[int] = field(default_factory=list[int])
    computed: int = 0
    used: int = 0
    making: Making | None = None
    guesses: list[int] = field(default_factory=list[int])  # after `tokens`, for one step
    unsaved: int = 0  # tokens of the prompt that are not in the file of prefixes
    is_restoring: bool = False  # `tokens` are being read from there
    adapter: str = ""  # that computes, and computed, what it holds

    @property
    def is_busy(self) -> bool:
        """It is not free for a prompt."""
        return self.making is not None or self.is_restoring

    def kept(self) -> Kept:
        """Return it as `prefixes.place` sees it."""
        return Kept(
            self.sequence, self.tokens, self.computed, self.is_busy, self.used, self.adapter
        )

    def pending(self) -> Pending:
        """Return what it has to compute."""
        is_prompt = self.making is not None and self.making.first is None
        tokens = self.tokens[self.computed :] + self.guesses
        return Pending(self.sequence, self.computed, tokens, is_prompt, self.adapter)

    def guess(self, context: int) -> None:
        """Guess what comes after the token that was chosen last."""
        self.guesses = []
        making = self.making
        if making is None or making.first is None or not making.worth.is_given():
            return
        # The step after the last right guess still chooses a token, which must fit as well.
        room = min(making.asked.limit - making.count, context - len(self.tokens)) - 1
        self.guesses = lookup.guess(self.tokens, min(lookup.MOST, room))

    def free(self) -> None:
        """End the answer; what was computed is kept."""
        if self.making and self.making.sampler:
            self.making.sampler.close()
        self.making = None
        self.guesses = []
        del self.tokens[self.computed :]

    def restore(self, tokens: Sequence[int]) -> None:
        """Be there for tokens that are being read; nothing is held meanwhile."""
        self.tokens = list(tokens)
        self.computed = 0
        self.unsaved = 0
        self.adapter = ""
        self.is_restoring = True

    def end_restoring(self, computed: int) -> None:
        """Hold what was read: all tokens or none."""
        self.is_restoring = False
        self.computed = computed
        del self.tokens[computed:]
