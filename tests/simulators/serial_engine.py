"""One request after another in an engine thread: an `Engine` around a `SerialModel`."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from sprat_agent.runtime.wire import (
    Answer,
    Conversation,
    Count,
    Counted,
    Done,
    Embed,
    Failed,
    Figures,
    Load,
    Loaded,
    Piece,
    Request,
    Score,
    Scored,
    Text,
    Tokens,
)
from sprat_agent.worker.engine import EngineError, Sink

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """How a generation ended, and what it took."""

    finish: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    prefill_s: float
    decode_s: float


Generation: TypeAlias = Generator[str, None, Finished]


class SerialModel(Protocol):
    """A model that answers one request after another; `SerialEngine` makes it an engine."""

    def load(self, source: Load) -> int:
        """Load the model and return its context in tokens; see `Engine.load`."""
        ...

    def generate(self, request: Request) -> Generation:
        """Yield text as it comes, and an empty text wherever the generation may be cancelled.

        Raises:
            EngineError: The request cannot be answered by this model.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@dataclass(frozen=True)
class _Queued:
    id: int
    request: Request


class SerialEngine:
    """Answers requests in the order they came; see `engine.Engine`."""

    def __init__(self, model: SerialModel) -> None:
        self._model = model
        self._sink: Sink = _nobody
        self._requests: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._open: set[int] = set()  # queued or being answered, and not cancelled
        self._progress: float | None = None  # monotonic moment of the last one, None while idle
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def load(self, source: Load, sink: Sink) -> Loaded:
        """Load the model, then start the engine thread."""
        context = self._model.load(source)
        self._sink = sink
        self._thread.start()
        return Loaded(context, slots=1)

    def submit(self, request_id: int, request: Request) -> None:
        """Queue a request."""
        self._open.add(request_id)
        self._requests.put(_Queued(request_id, request))

    def count(self, order: Count) -> None:
        """Count the letters of a text, or of a conversation's messages."""
        prompt = order.prompt
        match prompt:
            case Conversation(messages=messages):
                length = sum(len(one.content) for one in messages)
            case Text(text=text):
                length = len(text)
            case Tokens(tokens=tokens):
                length = len(tokens)
        self._say(Counted(order.id, length))

    def embed(self, order: Embed) -> None:
        """Refuse: only texts are made here."""
        self._say(Failed(order.id, "not_supported", "this engine makes no embeddings"))

    def score(self, order: Score) -> None:
        """Say that each letter of the text cost a nat."""
        self._say(Scored(order.id, len(order.text), float(len(order.text))))

    def cancel(self, request_id: int) -> None:
        """Stop the request between two tokens, or before it begins."""
        self._open.discard(request_id)

    def use_threads(self, count: int) -> None:
        """Nothing: there is one."""

    def stalled_s(self) -> float:
        """Return the time since the last progress of the request being answered."""
        progress = self._progress
        return 0.0 if progress is None else time.monotonic() - progress

    def figures(self) -> Figures:
        """Nothing is counted."""
        return Figures()

    def close(self) -> None:
        """Let the queue run out, then free the model."""
        self._requests.put(None)
        self._thread.join()
        self._model.close()

    def _say(self, answer: Answer) -> None:
        self._sink((answer,))

    def _run(self) -> None:
        while (queued := self._requests.get()) is not None:
            self._progress = time.monotonic()
            try:
                self._answer(queued)
            except EngineError as error:
                self._say(Failed(queued.id, error.code, error.message))
            except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
                _LOG.exception("the engine failed at a request")
                self._say(Failed(queued.id, "engine_error", f"the engine failed: {error}"))
            finally:
                self._open.discard(queued.id)
                self._progress = None

    def _answer(self, queued: _Queued) -> None:
        finished: Finished | None = None
        if queued.id in self._open:
            finished = self._stream(queued, self._model.generate(queued.request))
        if finished is None:
            self._say(Done(queued.id, "cancelled", 0, 0, 0.0, 0.0))
            return
        self._say(
            Done(
                id=queued.id,
                finish=finished.finish,
                prompt_tokens=finished.prompt_tokens,
                completion_tokens=finished.completion_tokens,
                prefill_ms=finished.prefill_s * 1000,
                decode_ms=finished.decode_s * 1000,
            )
        )

    def _stream(self, queued: _Queued, generation: Generation) -> Finished | None:
        """Pass on what is generated; None if the request was cancelled meanwhile."""
        while True:
            try:
                text = next(generation)
            except StopIteration as stop:
                finished: Finished = stop.value
                return finished
            self._progress = time.monotonic()
            if queued.id not in self._open:
                generation.close()
                return None
            if text:
                self._say(Piece(queued.id, text))


def _nobody(_answers: Sequence[Answer]) -> None:
    """Nothing is loaded yet."""
