"""One answer on its way from a worker to an application, and what it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from sprat_proto.probes import Traffic

from sprat_agent.runtime import observed
from sprat_agent.runtime.faults import AnswerError, ModelNotFoundError
from sprat_agent.runtime.observed import UnderWay
from sprat_agent.runtime.process import Ask, Counting, Inputs
from sprat_agent.runtime.served import ServedAlias
from sprat_agent.runtime.wire import Done, Piece, Request, no_adapter
from sprat_agent.sync.ports import Loadable


@dataclass(frozen=True)
class Vectors:
    """What a model made of texts."""

    loadable: Loadable
    vectors: tuple[bytes, ...]  # in order; little-endian 32-bit floats, each of length 1
    prompt_tokens: int


async def embed(
    alias: ServedAlias, inputs: Inputs, *, pinned: str | None, is_batch: bool = False
) -> Vectors:
    """Wait for a worker to take the texts, and for what it makes of them.

    Raises:
        AnswerError: They were not admitted or not answered; see `ServedAlias.admit`.
    """
    admission = await alias.admit(inputs, pinned=pinned, is_batch=is_batch)
    try:
        made = await admission.ask.vectors()
    except AnswerError as error:
        if observed.is_models_fault(error):
            admission.hosted.note(observed.FAILED)
        raise
    finally:
        admission.ask.cancel()
    admission.hosted.note(observed.ANSWERED)
    return Vectors(admission.hosted.loadable, made.vectors, made.prompt_tokens)


@dataclass(frozen=True)
class PromptLength:
    """How long a prompt is for a model."""

    loadable: Loadable
    tokens: int


async def count(
    alias: ServedAlias, counting: Counting, *, pinned: str | None, is_batch: bool = False
) -> PromptLength:
    """Wait for a worker to count, which it does beside the answers that it makes.

    Raises:
        AnswerError: It was not admitted or not counted; see `ServedAlias.admit`.
    """
    admission = await alias.admit(counting, pinned=pinned, is_batch=is_batch)
    counted = await admission.ask.count()
    return PromptLength(admission.hosted.loadable, counted.prompt_tokens)


class Answer:
    """Iterate over its pieces; `done` is there afterwards.

    Raises, while iterated:
        AnswerError: The worker died, was ended, or refused the request.
    """

    def __init__(
        self, loadable: Loadable, ask: Ask, began: float, learn: Callable[[Traffic], None]
    ) -> None:
        """Begin to hear an answer.

        Args:
            loadable: The model that took the request.
            ask: Its messages.
            began: When the request arrived, by `monotonic`.
            learn: Told in the end what the request showed of the model.
        """
        self.loadable = loadable
        self.done: Done | None = None
        self.fault: AnswerError | None = None  # why it came to no end
        self.queue_ms = (monotonic() - began) * 1000
        self.ttft_ms: float | None = None  # from arrival to the first text
        self.on_piece: Callable[[Piece], None] = _nothing  # told of each as it is iterated over
        self._began = began
        self._ask = ask
        self._learn = learn
        self._took_ms = 0.0

    @classmethod
    async def begin(
        cls, alias: ServedAlias, request: Request, *, pinned: str | None, is_batch: bool = False
    ) -> Answer:
        """Wait for a worker to take the request; see `ServedAlias.admit`.

        An adapter that no model under the alias has is refused before one is loaded for it; which
        of them answers, and whether that one has it, is known only then.
        """
        began = monotonic()
        models = [one.loadable for one in alias.all_hosted()]
        known = sorted({name for one in models for name in one.adapter_names})
        if request.adapter and request.adapter not in known:
            raise ModelNotFoundError(no_adapter(request.adapter, known))
        admission = await alias.admit(request, pinned=pinned, is_batch=is_batch)
        return cls(admission.hosted.loadable, admission.ask, began, admission.hosted.note)

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Piece:
        try:
            message = await anext(self._ask)
        except AnswerError as error:
            self.fault = error
            raise
        now_ms = (monotonic() - self._began) * 1000
        if not isinstance(message, Piece):
            self.done = message
            self._took_ms = now_ms
            raise StopAsyncIteration
        self.ttft_ms = self.ttft_ms or now_ms  # also of a call, or of log probabilities
        self.on_piece(message)
        return message

    def stop(self) -> None:
        """Stop the generation, if it goes on."""
        self._ask.cancel()

    def note(self, request: Request, under_way: UnderWay) -> None:
        """Let the model that took the request know how it went."""
        self._learn(observed.traffic_of(request, self.done, self.fault, under_way))

    def timings(self) -> dict[str, float]:
        """Return what the answer took, in milliseconds and tokens a second."""
        done = self.done
        timings = {"queue_ms": self.queue_ms}
        if self.ttft_ms is not None:
            timings["ttft_ms"] = self.ttft_ms
        if done:
            computed = done.prompt_tokens - done.cached_tokens
            timings["cached_tokens"] = done.cached_tokens
            timings["prefill_ms"] = done.prefill_ms
            timings["prefill_tps"] = _rate(computed, done.prefill_ms)
            timings["decode_ms"] = done.decode_ms
            timings["decode_tps"] = _rate(done.completion_tokens, done.decode_ms)
            timings["total_ms"] = self._took_ms
        return {name: round(value, 2) for name, value in timings.items()}


def _rate(tokens: int, milliseconds: float) -> float:
    return tokens * 1000 / milliseconds if milliseconds > 0 else 0.0


def _nothing(_piece: Piece) -> None:
    """Nobody listens."""
