"""What was answered since the agent started: counts and times, never a word of what was said."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

from sprat_agent.api import asking, genai
from sprat_agent.api.account import Account
from sprat_agent.api.asking import Asking
from sprat_agent.api.models import Models
from sprat_agent.audit.capture import Captured
from sprat_agent.audit.inference import NO_MODEL, Inference, Outcome
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

CANCELLED: Final = "cancelled"  # the client went away
FAILED: Final = "internal_error"
_OUTCOMES: Final = {"": Outcome.ANSWERED, CANCELLED: Outcome.CANCELED}
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
    """Models whose answers are counted, and told to whoever keeps account; see `Models`."""

    def __init__(self, models: Models, recorder: Recorder, account: Account) -> None:
        self._models = models
        self._recorder = recorder
        self._account = account

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
        captured = self._captured(request.prompt)
        try:
            async with self._models.answering(name, request, is_batch=is_batch) as answer:
                model = answer.loadable.alias
                if captured:
                    answer.on_piece = captured.hear
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
            took_s = monotonic() - began
            kind = Kind(model, operation_of(request))
            self._recorder.ended(kind, code, answer, took_s)
            end = _End(kind.operation, code, took_s, request.adapter)
            asked = None if answer else self._asked_for(name)
            self._tell(end.of_answer(answer) if answer else replace(end, loadable=asked), captured)

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
        captured = self._captured(*inputs)
        try:
            vectors = await self._models.embedding(
                name, inputs, is_truncated=is_truncated, is_batch=is_batch
            )
            code = ""
        except AnswerError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = CANCELLED
            raise
        else:
            return vectors
        finally:
            took_s = monotonic() - began
            kind = Kind(self._alias_of(name), genai.EMBEDDINGS)
            self._recorder.embedded(kind, code, vectors, took_s)
            end = _End(kind.operation, code, took_s, loadable=self._asked_for(name))
            self._tell(end.of_vectors(vectors) if vectors else end, captured)

    async def counting(self, name: str, prompt: Prompt, *, is_batch: bool = False) -> PromptLength:
        """Have the tokens of a prompt counted; no figure is about that."""
        return await self._models.counting(name, prompt, is_batch=is_batch)

    def _captured(self, *prompts: Prompt) -> Captured | None:
        capturing = self._account.capturing
        return capturing.of(*prompts) if capturing else None

    def _tell(self, end: _End, captured: Captured | None) -> None:
        content = captured.detail() if captured else None
        self._account.inferred(end.inference(asking.now()), content)

    def _asked_for(self, name: str) -> Loadable | None:
        try:
            return self._models.find(name)
        except AnswerError:
            return None

    def _alias_of(self, name: str) -> str:
        found = self._asked_for(name)
        return found.alias if found else NO_MODEL


@dataclass(frozen=True)
class _End:
    """How one request ended."""

    operation: str
    code: str  # why there is no whole answer; "" where there is one
    took_s: float
    adapter: str = ""  # as it was asked for
    loadable: Loadable | None = None
    finish: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    ttft_ms: float | None = None

    def of_answer(self, answer: Answer) -> _End:
        """Return the same, with what a model made of it."""
        with_model = replace(self, loadable=answer.loadable, ttft_ms=answer.ttft_ms)
        if answer.done is None:
            return with_model
        return replace(
            with_model,
            finish=answer.done.finish,
            tokens_in=answer.done.prompt_tokens,
            tokens_out=answer.done.completion_tokens,
        )

    def of_vectors(self, vectors: Vectors) -> _End:
        """Return the same, with what a model made of it."""
        tokens = vectors.prompt_tokens
        return replace(self, loadable=vectors.loadable, tokens_in=tokens, tokens_out=0)

    def inference(self, who: Asking) -> Inference:
        """Return what goes on record of it."""
        one = self.loadable
        return Inference(
            model=one.name if one else NO_MODEL,
            alias=one.alias if one else "",
            digest=one.digest if one else "",
            # A name that an application made up may say anything.
            adapter=self.adapter if one and self.adapter in one.adapter_names else "",
            caller=who.caller,
            dialect=who.routes,
            operation=self.operation,
            outcome=_OUTCOMES.get(self.code, Outcome.FAILED),
            reason="" if self.code in _OUTCOMES else self.code,
            finish=self.finish,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            ttft_ms=None if self.ttft_ms is None else round(self.ttft_ms),
            ms=round(self.took_s * 1000),
        )


def operation_of(request: Request) -> str:
    """Return the conventions' name for what is asked."""
    return genai.CHAT if isinstance(request.prompt, Conversation) else genai.TEXT_COMPLETION
