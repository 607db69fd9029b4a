"""What was answered since the agent started: counts and times, never a word of what was said."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from sprat_agent.api import genai
from sprat_agent.api.models import Models
from sprat_agent.runtime.answer import Answer, PromptLength, Vectors
from sprat_agent.runtime.faults import (
    AnswerError,
    InsufficientMemoryError,
    ModelLoadingError,
    ModelNotFoundError,
    QueueFullError,
)
from sprat_agent.runtime.served import Status
from sprat_agent.runtime.wire import Conversation, Prompt, Request, Text, Tokens
from sprat_agent.sync.ports import Loadable

NO_MODEL: Final = "none"  # names that clients make up are no labels: there is no end to them
CANCELLED: Final = "cancelled"  # the client went away
FAILED: Final = "internal_error"
# Codes of a request that was not admitted; the others come from a model that took it.
_NOT_TAKEN: Final = frozenset(
    error.code
    for error in (ModelNotFoundError, QueueFullError, ModelLoadingError, InsufficientMemoryError)
)


class Histogram:
    """How often a value was at most each bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # of each bucket alone; the last has no bound
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(frozen=True)
class Kind:
    """What requests are told apart by."""

    model: str  # the alias
    operation: str


@dataclass
class Times:
    """What the answers of one kind took, in seconds."""

    duration: Histogram = field(default_factory=lambda: Histogram(genai.DURATION_BOUNDS))
    first_token: Histogram = field(default_factory=lambda: Histogram(genai.FIRST_TOKEN_BOUNDS))
    per_token: Histogram = field(default_factory=lambda: Histogram(genai.PER_TOKEN_BOUNDS))


class Recorder:
    """The counters; they begin at zero with each start of the agent."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[Kind, str]] = Counter()  # with the error's code, or ""
        self.rejected: Counter[str] = Counter()  # by code: no model took them
        self.tokens: Counter[tuple[str, str]] = Counter()  # by alias and type
        self.running: Counter[str] = Counter()  # by alias, now
        self.times: dict[Kind, Times] = {}

    def ended(self, kind: Kind, code: str, answer: Answer | None, duration_s: float) -> None:
        """Count one request.

        Args:
            kind: What was asked, of which alias.
            code: Why there is no whole answer; empty where there is one.
            answer: What a model made of it; None where no model took it.
            duration_s: From its arrival to its end.
        """
        self.requests[kind, code] += 1
        if code in _NOT_TAKEN and answer is None:
            self.rejected[code] += 1
        if answer and not code:
            self._measure(kind, answer, duration_s)

    def embedded(self, kind: Kind, code: str, vectors: Vectors | None, duration_s: float) -> None:
        """Count one request for vectors; `code` tells why there are none."""
        self.requests[kind, "" if vectors else code] += 1
        if code in _NOT_TAKEN:
            self.rejected[code] += 1
        if vectors:
            self.tokens[kind.model, "input"] += vectors.prompt_tokens
            self.times.setdefault(kind, Times()).duration.observe(duration_s)

    def _measure(self, kind: Kind, answer: Answer, duration_s: float) -> None:
        times = self.times.setdefault(kind, Times())
        times.duration.observe(duration_s)
        if answer.ttft_ms is not None:
            times.first_token.observe(answer.ttft_ms / 1000)
        done = answer.done
        if done is None:
            return
        self.tokens[kind.model, "input"] += done.prompt_tokens
        self.tokens[kind.model, "cached"] += done.cached_tokens
        self.tokens[kind.model, "output"] += done.completion_tokens
        if done.completion_tokens > 1:  # the first one's time is another figure
            times.per_token.observe(done.decode_ms / 1000 / (done.completion_tokens - 1))


class Recorded:
    """Models whose answers are counted; see `Models`."""

    def __init__(self, models: Models, recorder: Recorder) -> None:
        self._models = models
        self._recorder = recorder

    def statuses(self) -> tuple[Status, ...]:
        """Return how each alias is doing."""
        return self._models.statuses()

    def offered(self) -> tuple[tuple[str, Loadable], ...]:
        """Return what applications may ask."""
        return self._models.offered()

    def find(self, name: str) -> Loadable:
        """Return the model that a name stands for."""
        return self._models.find(name)

    @asynccontextmanager
    async def answering(
        self, name: str, request: Request, *, is_batch: bool = False
    ) -> AsyncGenerator[Answer]:
        """Have a request answered, and count how that ended."""
        began = monotonic()
        model, code, answer = NO_MODEL, FAILED, None
        try:
            async with self._models.answering(name, request, is_batch=is_batch) as answer:
                model = answer.loadable.alias
                self._recorder.running[model] += 1
                try:
                    yield answer
                finally:
                    self._recorder.running[model] -= 1
            code = "" if answer.done else CANCELLED
        except AnswerError as error:
            code = error.code
            model = self._alias_of(name) if answer is None else model
            raise
        except asyncio.CancelledError:
            code = CANCELLED
            raise
        finally:
            kind = Kind(model, operation_of(request))
            self._recorder.ended(kind, code, answer, monotonic() - began)

    async def embedding(
        self,
        name: str,
        inputs: tuple[Text | Tokens, ...],
        *,
        is_truncated: bool = False,
        is_batch: bool = False,
    ) -> Vectors:
        """Have texts made into vectors, and count how that ended."""
        began = monotonic()
        code, vectors = FAILED, None
        try:
            vectors = await self._models.embedding(
                name, inputs, is_truncated=is_truncated, is_batch=is_batch
            )
        except AnswerError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = CANCELLED
            raise
        else:
            return vectors
        finally:
            kind = Kind(self._alias_of(name), genai.EMBEDDINGS)
            self._recorder.embedded(kind, code, vectors, monotonic() - began)

    async def counting(self, name: str, prompt: Prompt, *, is_batch: bool = False) -> PromptLength:
        """Have the tokens of a prompt counted; no figure is about that."""
        return await self._models.counting(name, prompt, is_batch=is_batch)

    def _alias_of(self, name: str) -> str:
        try:
            return self._models.find(name).alias
        except AnswerError:
            return NO_MODEL


def operation_of(request: Request) -> str:
    """Return the conventions' name for what is asked."""
    return genai.CHAT if isinstance(request.prompt, Conversation) else genai.TEXT_COMPLETION
