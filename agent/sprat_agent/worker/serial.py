"""One request after another in an engine thread: an `Engine` around a `SerialModel`."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass

from sprat_agent.runtime.wire import Chat, Done, Failed, Load, Piece
from sprat_agent.worker.engine import EngineError, Finished, Generation, SerialModel, Sink

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    id: int
    chat: Chat
    sink: Sink


class SerialEngine:
    """Answers requests in the order they came; see `engine.Engine`."""

    slots = 1

    def __init__(self, model: SerialModel) -> None:
        self._model = model
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._open: set[int] = set()  # queued or being answered, and not cancelled
        self._progress: float | None = None  # monotonic moment of the last one, None while idle
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def load(self, source: Load) -> int:
        """Load the model, then start the engine thread."""
        context = self._model.load(source)
        self._thread.start()
        return context

    def submit(self, request_id: int, chat: Chat, sink: Sink) -> None:
        """Queue a request."""
        self._open.add(request_id)
        self._requests.put(_Request(request_id, chat, sink))

    def cancel(self, request_id: int) -> None:
        """Stop the request between two tokens, or before it begins."""
        self._open.discard(request_id)

    def stalled_s(self) -> float:
        """Return the time since the last progress of the request being answered."""
        progress = self._progress
        return 0.0 if progress is None else time.monotonic() - progress

    def close(self) -> None:
        """Let the queue run out, then free the model."""
        self._requests.put(None)
        self._thread.join()
        self._model.close()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            self._progress = time.monotonic()
            try:
                self._answer(request)
            except EngineError as error:
                request.sink(Failed(request.id, error.code, error.message))
            except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
                _LOG.exception("the engine failed at a request")
                request.sink(Failed(request.id, "engine_error", f"the engine failed: {error}"))
            finally:
                self._open.discard(request.id)
                self._progress = None

    def _answer(self, request: _Request) -> None:
        finished: Finished | None = None
        if request.id in self._open:
            finished = self._stream(request, self._model.generate(request.chat))
        if finished is None:
            request.sink(Done(request.id, "cancelled", 0, 0, 0.0, 0.0))
            return
        request.sink(
            Done(
                id=request.id,
                finish=finished.finish,
                prompt_tokens=finished.prompt_tokens,
                completion_tokens=finished.completion_tokens,
                prefill_ms=finished.prefill_s * 1000,
                decode_ms=finished.decode_s * 1000,
            )
        )

    def _stream(self, request: _Request, generation: Generation) -> Finished | None:
        """Pass on what is generated; None if the request was cancelled meanwhile."""
        while True:
            try:
                text = next(generation)
            except StopIteration as stop:
                finished: Finished = stop.value
                return finished
            self._progress = time.monotonic()
            if request.id not in self._open:
                generation.close()
                return None
            if text:
                request.sink(Piece(request.id, text))
