"""Continuous batching: many requests share each step of one model.

One thread owns the model. Between two steps it takes new requests and cancellations, so that both
take effect within a step. A prompt is computed in parts beside the answers of others, and a prefix
that several prompts share is computed once.

For the same requests in the same steps the answers are equal, bit for bit. The steps' shapes depend
on who else asks, and llama.cpp sums in another order for another shape: logits then differ by some
1e-3, which may change a greedy answer at a near tie.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from sprat_agent.runtime.wire import (
    Answer,
    Conversation,
    Count,
    Counted,
    Done,
    Embed,
    Embedded,
    Failed,
    Figures,
    Load,
    Loaded,
    Piece,
    Request,
    Score,
    Text,
    no_adapter,
)
from sprat_agent.worker.batching import likelihood
from sprat_agent.worker.batching.backend import Backend
from sprat_agent.worker.batching.batch import Run, compose, turn
from sprat_agent.worker.batching.counts import Counts
from sprat_agent.worker.batching.prefixes import Place, place
from sprat_agent.worker.batching.scoring import Scoring
from sprat_agent.worker.batching.slot import Asked, Finish, Making, Slot
from sprat_agent.worker.decoding.begin import Decodings
from sprat_agent.worker.engine import EngineError, Sink
from sprat_agent.worker.prompting.prompts import Prompts
from sprat_agent.worker.spilling.spiller import Spiller, open_shelf

_LOG = logging.getLogger(__name__)
PROMPT_CHUNK: Final = 256  # tokens of prompts in a step beside answers
GUESSING_SLOTS: Final = 2
# Without a request for so long, what few requests need is made ready: at once, the first answers
# after the load would be slower for it.
QUIET_S: Final = 2.0

_Order: TypeAlias = Callable[[], None]


class Scheduler:
    """Answers many requests with one model; see `engine.Engine`."""

    def __init__(
        self,
        backend: Backend,
        clock: Callable[[], float] = time.monotonic,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._quiet_s = quiet_s
        self._sink: Sink = _nobody
        self._orders: deque[_Order] = deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._progress: float | None = None  # moment of the last one, None while idle
        self._waiting: list[Asked] = []
        self._held: list[Asked] = []  # back until their grammars can be compiled
        self._embeds: deque[Embed] = deque()
        self._scorings: deque[Scoring] = deque()
        self._slots: list[Slot] = []
        self._out: list[Answer] = []
        self._uses = 0
        self._adapter = ""  # of the last step
        self._counts = Counts()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def load(self, source: Load, sink: Sink) -> Loaded:
        """Load the model, then start the engine thread."""
        backend = self._backend
        backend.load(source)
        self._prompts = Prompts(backend.vocabulary, source.template)
        self._decodings = Decodings(
            backend.vocabulary, source.template, on_ready=lambda: self._order(self._take_held)
        )
        self._slots = [Slot(number) for number in range(backend.slots)]
        self._spiller = Spiller(
            backend,
            self._slots,
            open_shelf(source, backend),
            self._counts,
            self._clock,
            copies=source.prefix_copies,
        )
        self._sink = sink
        self._thread.start()
        return Loaded(
            backend.context, backend.slots, backend.can_generate, backend.embedding_length
        )

    def submit(self, request_id: int, request: Request) -> None:
        """Begin to answer soon."""
        self._order(lambda: self._take(request_id, request))

    def embed(self, order: Embed) -> None:
        """Begin to make vectors soon."""
        self._order(lambda: self._embeds.append(order))

    def count(self, order: Count) -> None:
        """Count before the next step."""
        self._order(lambda: self._count(order))

    def score(self, order: Score) -> None:
        """Begin to score a text soon."""
        self._order(lambda: self._take_score(order))

    def cancel(self, request_id: int) -> None:
        """Stop before the next step."""
        self._order(lambda: self._stop(request_id))

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from the next step on."""
        self._order(lambda: self._backend.use_threads(count))

    def stalled_s(self) -> float:
        """Return how long the engine has been busy without any progress; 0 when idle."""
        progress = self._progress
        return 0.0 if progress is None else self._clock() - progress

    def figures(self) -> Figures:
        """Return what it did since it was loaded."""
        busy = sum(slot.making is not None for slot in self._slots)
        return self._counts.figures(busy)

    def close(self) -> None:
        """Answer what was asked, then free the model."""
        self._is_closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
            self._decodings.close()
        self._backend.close()

    # The engine thread

    def _order(self, order: _Order) -> None:
        self._orders.append(order)
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self._progress = self._clock()
            is_busy = self._advance()
            if not is_busy and not self._orders:
                self._progress = None
                if self._is_closing and not self._held:
                    return
                self._rest()

    def _rest(self) -> None:
        """Wait for an order; when none comes for a while, make ready what one may need."""
        if self._backend.can_generate and not self._wake.wait(self._quiet_s):
            self._decodings.prepare()
        self._wake.wait()

    def _advance(self) -> bool:
        """Obey what was ordered and make one step; tell whether there is more to do."""
        began = self._clock()
        computing_s = self._counts.decode_s
        while self._orders:
            self._orders.popleft()()
        self._make_vectors()
        self._score_chunk()
        self._admit()
        busy = [slot for slot in self._in_order() if slot.making]
        runs = self._runs(busy) if busy else ()
        is_made = bool(runs) and self._step(runs)
        self._say()
        if runs:
            took_s, decode_s = self._clock() - began, self._counts.decode_s - computing_s
            self._counts.schedule_s += took_s - decode_s
            if is_made:
                self._spiller.stepped(runs, decode_s)
        is_busy = bool(runs or self._waiting or self._embeds or self._scorings)
        return self._spiller.work(is_busy=is_busy) or is_busy

    def _runs(self, busy: Sequence[Slot]) -> tuple[Run, ...]:
        """Return the next step, which is of one adapter."""
        self._adapter = turn({slot.adapter for slot in busy}, self._adapter)
        self._guess([slot for slot in busy if slot.adapter == self._adapter])
        pending = [slot.pending() for slot in busy]
        return compose(pending, self._backend.step_tokens, PROMPT_CHUNK, self._adapter)

    def _guess(self, busy: Sequence[Slot]) -> None:
        """Guess tokens while few answers share a step: with many, each guess costs as much."""
        few = self._backend.can_rewind and len(busy) <= GUESSING_SLOTS
        for slot in busy:
            if few:
                slot.guess(self._backend.context)
            else:
                slot.guesses = []

    def _in_order(self) -> list[Slot]:
        """Return the slots, that of the oldest request first."""
        return sorted(self._slots, key=lambda slot: slot.used)

    def _say(self) -> None:
        if self._out:
            answers, self._out = self._out, []
            self._sink(answers)

    def _take(self, request_id: int, request: Request) -> None:
        """Make the prompt of a new request."""
        try:
            asked = self._asked(request_id, request)
            queue = self._waiting if self._decodings.may_begin(request) else self._held
            queue.append(asked)
        except EngineError as error:
            self._out.append(Failed(request_id, error.code, error.message))
        except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
            self._out.append(_failed(request_id, error))

    def _take_held(self) -> None:
        self._waiting += self._held
        self._held.clear()

    def _asked(self, request_id: int, request: Request) -> Asked:
        _refuse_unsupported(request, self._backend)
        context = self._backend.context
        prompt = self._prompts.tokens(request.prompt, context)
        room = context - len(prompt)
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        return Asked(request_id, request, prompt, limit)

    def _count(self, order: Count) -> None:
        """Count the tokens of a prompt, which may be longer than the context."""
        try:
            tokens = self._prompts.tokens(order.prompt, sys.maxsize)
            self._out.append(Counted(order.id, len(tokens)))
        except EngineError as error:
            self._out.append(Failed(order.id, error.code, error.message))
        except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
            self._out.append(_failed(order.id, error))

    def _stop(self, request_id: int) -> None:
        """End a request that nobody wants any more, queued or active."""
        for asked in (*self._waiting, *self._held):
            if asked.id == request_id:
                queue = self._waiting if asked in self._waiting else self._held
                queue.remove(asked)
                self._out.append(Done(request_id, "cancelled", len(asked.prompt), 0, 0.0, 0.0))
                return
        for slot in self._slots:
            if slot.making and slot.making.asked.id == request_id:
                self._out.append(slot.making.done("cancelled", self._clock()))
                slot.free()
                return
        for queue in (self._embeds, self._scorings):
            for at, order in enumerate(queue):
                if order.id == request_id:
                    del queue[at]
                    self._out.append(Done(request_id, "cancelled", 0, 0, 0.0, 0.0))
                    return

    def _admit(self) -> None:
        """Give waiting requests a sequence, oldest first; one that waits for a prefix lets pass."""
        for asked in list(self._waiting):
            self._spiller.find(asked)
            found = place(
                asked.prompt,
                [slot.kept() for slot in self._slots],
                is_fresh=asked.request.is_fresh,
                adapter=asked.request.adapter,
            )
            if found is None:
                continue
            self._waiting.remove(asked)
            try:
                self._begin(asked, found)
            except EngineError as error:
                self._out.append(Failed(asked.id, error.code, error.message))
            except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
                self._out.append(_failed(asked.id, error))

    def _begin(self, asked: Asked, where: Place) -> None:
        decoding = self._decodings.begin(asked.request)
        slot = self._slots[where.sequence]
        is_in_place = where.source == where.sequence
        self._spiller.lose(slot, where.shared if is_in_place else 0)
        if not is_in_place:
            self._backend.copy(where.source, where.sequence)
            self._spiller.copied()
        cached = self._backend.keep(where.sequence, where.shared)
        self._uses += 1
        slot.used = self._uses
        slot.tokens = list(asked.prompt)
        slot.computed = cached
        slot.adapter = asked.request.adapter
        sampler = self._backend.sampler(asked.request.sampling)
        slot.making = Making(asked, decoding, sampler, cached, began=self._clock())
        self._spiller.began(slot, is_in_place=is_in_place)
        self._counts.cached_tokens += cached
        if asked.request.is_echoed:
            self._out.append(Piece(asked.id, self._text_of(asked)))
        if asked.limit <= 0:
            self._finish(slot, "length")

    def _text_of(self, asked: Asked) -> str:
        if isinstance(asked.request.prompt, Text):
            return asked.request.prompt.text
        pieces = (self._backend.vocabulary.piece(token) for token in asked.prompt)
        return b"".join(pieces).decode("utf-8", "replace")

    def _step(self, runs: Sequence[Run]) -> bool:
        """Compute the runs and choose what follows; tell whether it went well."""
        began = self._clock()
        try:
            self._backend.use_adapter(self._adapter)
            self._backend.decode(runs)
        except EngineError as error:
            self._fail_all(error)
            return False
        finally:
            self._counts.decode_s += self._clock() - began
            self._counts.steps += 1
        end = 0
        for run in runs:
            end += len(run.tokens)
            slot = self._slots[run.sequence]
            self._counts.add(slot, len(run.tokens))
            slot.computed += len(run.tokens)
            if run.rows:
                self._choose_all(slot, run, end - run.rows)
        return True

    def _choose_all(self, slot: Slot, run: Run, first: int) -> None:
        """Choose a token by each row of a run, from the step's token `first` on.

        The rows after the first follow on guesses: they count as long as these were right.
        """
        making = slot.making
        if making is None:
            return
        drafted, accepted = run.rows - 1, 0
        making.drafted += drafted
        computed = run.start + len(run.tokens) - drafted
        for number in range(run.rows):
            slot.computed = computed + number
            self._choose(slot, first + number)
            if slot.making is None or number == drafted:
                break
            if slot.tokens[-1] != run.tokens[number + 1]:
                break
            accepted += 1
        if drafted:
            slot.computed = self._backend.keep(slot.sequence, slot.computed)
            making.worth.learn(drafted, accepted)
            self._counts.drafted_tokens += drafted
            self._counts.accepted_tokens += accepted

    def _choose(self, slot: Slot, at: int) -> None:
        """Choose the next token of an answer from the logits of the step's token `at`."""
        making = slot.making
        if making is None:
            return
        try:
            self._choose_for(slot, making, at)
        except EngineError as error:
            self._give_up(slot, Failed(making.asked.id, error.code, error.message))
        except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
            self._give_up(slot, _failed(making.asked.id, error))

    def _choose_for(self, slot: Slot, making: Making, at: int) -> None:
        backend, request = self._backend, making.asked.request
        chances = None if request.logprobs is None else likelihood.log_softmax(backend.row(at))
        if making.decoding.is_constrained:
            making.decoding.mask(backend.row(at))
        token = making.sampler.choose(at) if making.sampler else int(backend.row(at).argmax())
        making.first = self._clock() if making.first is None else making.first
        if backend.vocabulary.is_end(token):
            self._finish(slot, making.decoding.finish)
            return
        making.count += 1
        slot.tokens.append(token)
        part = making.decoding.take(token)
        came = (
            ()
            if chances is None or request.logprobs is None
            else (likelihood.chosen(backend.vocabulary, chances, token, request.logprobs),)
        )
        if part or came:
            self._out.append(Piece(making.asked.id, part.text, part.tool_calls, came))
        if making.decoding.is_over:
            self._finish(slot, making.decoding.finish)
        elif making.count >= making.asked.limit:
            self._finish(slot, "length")

    def _finish(self, slot: Slot, finish: Finish) -> None:
        """End an answer that went well."""
        making = slot.making
        if making is None:
            return
        rest = making.decoding.end()
        if rest:
            self._out.append(Piece(making.asked.id, rest.text, rest.tool_calls))
        self._out.append(making.done(finish, self._clock()))
        slot.free()

    def _give_up(self, slot: Slot, failed: Failed) -> None:
        self._out.append(failed)
        slot.free()

    def _fail_all(self, error: EngineError) -> None:
        """End all answers, and forget what the sequences held."""
        self._spiller.forget()
        for slot in self._slots:
            if slot.making:
                self._give_up(slot, Failed(slot.making.asked.id, error.code, error.message))
            slot.computed = self._backend.keep(slot.sequence, 0)
            slot.tokens.clear()

    def _make_vectors(self) -> None:
        """Make the vectors of one order, where a sequence is free."""
        slot = next((slot for slot in self._in_order() if not slot.is_busy), None)
        if not self._embeds or slot is None:
            return
        self._spiller.lose(slot)
        order = self._embeds.popleft()
        slot.tokens.clear()
        slot.computed = 0
        try:
            self._out.append(self._embedded(order, slot.sequence))
        except EngineError as error:
            self._out.append(Failed(order.id, error.code, error.message))
        except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
            self._out.append(_failed(order.id, error))

    def _take_score(self, order: Score) -> None:
        """Cut the text of a new order."""
        try:
            self._scorings.append(Scoring(order, self._backend))
        except EngineError as error:
            self._out.append(Failed(order.id, error.code, error.message))
        except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
            self._out.append(_failed(order.id, error))

    def _score_chunk(self) -> None:
        """Score one chunk of a text, where a sequence is free; answers go on between chunks."""
        slot = next((slot for slot in self._in_order() if not slot.is_busy), None)
        if not self._scorings or slot is None:
            return
        self._spiller.lose(slot)
        scoring = self._scorings[0]
        slot.tokens.clear()
        slot.computed = 0
        try:
            self._backend.use_adapter("")
            scoring.advance(slot.sequence, self._note_progress)
            if scoring.is_over:
                self._out.append(scoring.scored())
                self._scorings.popleft()
        except EngineError as error:
            self._scorings.popleft()
            self._out.append(Failed(scoring.id, error.code, error.message))
        except Exception as error:  # noqa: BLE001 - the request fails, the engine goes on
            self._scorings.popleft()
            self._out.append(_failed(scoring.id, error))

    def _note_progress(self) -> None:
        self._progress = self._clock()

    def _embedded(self, order: Embed, sequence: int) -> Embedded:
        if not self._backend.embedding_length:
            raise EngineError("not_supported", "this model makes no embeddings")
        self._backend.use_adapter("")
        context = self._backend.context
        vectors: list[bytes] = []
        count = 0
        for one in order.inputs:
            tokens = self._prompts.text(one, context, is_truncated=order.is_truncated)
            vectors.append(self._backend.embed(sequence, tokens).astype("<f4").tobytes())
            count += len(tokens)
            self._progress = self._clock()
        return Embedded(order.id, tuple(vectors), count)


def _refuse_unsupported(request: Request, backend: Backend) -> None:
    """Refuse what would change the answer and is not done here.

    Raises:
        EngineError: not_supported, model_not_found.
    """
    if not backend.can_generate:
        raise EngineError("not_supported", "this model makes embeddings and no texts: ask for them")
    if request.adapter and request.adapter not in backend.adapters:
        raise EngineError("model_not_found", no_adapter(request.adapter, backend.adapters))
    if request.is_echoed and isinstance(request.prompt, Conversation):
        raise EngineError("not_supported", "messages cannot be echoed: only a text prompt can")


def _failed(request_id: int, error: Exception) -> Failed:
    if isinstance(error, MemoryError):  # the next request has no more: let a new worker answer it
        raise error
    _LOG.error("the engine failed at a request", exc_info=error)
    return Failed(request_id, "engine_error", f"the engine failed: {error}")


def _nobody(_answers: Sequence[Answer]) -> None:
    """Nothing is loaded yet."""
