"""A scheduler over a `CountingBackend`, asked from one thread, which hears what it says."""

from __future__ import annotations

import queue
from collections.abc import Sequence

from sprat_agent.runtime.wire import Answer, Done, Load, Piece, Request, Sampling, Text
from sprat_agent.worker.batching.scheduler import Scheduler

from simulators.counting_backend import CountingBackend

WAIT_S = 20
TOKEN_S = 0.005


class SpillingDesk:
    """One life of a worker that keeps prefixes in a file.

    Its time goes on by `TOKEN_S` for each token that is computed, and by `tick_s` whenever somebody
    looks: more than a moment of work, and each chunk of a prefix takes a step of its own.
    """

    def __init__(
        self,
        descriptor: int,
        limit: int,
        backend: CountingBackend,
        key: str = "model",
        *,
        tick_s: float = 0.001,
    ) -> None:
        self.backend = backend
        self.scheduler = Scheduler(backend, self._clock)
        self._tick_s = tick_s
        self._looks = 0
        self.texts: dict[int, str] = {}
        self.ended: dict[int, Answer] = {}
        self._said: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        load = Load(
            "",
            backend.context,
            1,
            "",
            slots=backend.slots,
            prefix_file=descriptor,
            prefix_bytes=limit,
            prefix_key=key,
            prefix_copies=limit,
        )
        self.scheduler.load(load, self._take)

    def ask(self, number: int, prompt: str, count: int = 4, **how: object) -> None:
        """Ask, without waiting."""
        request = Request(Text(prompt), Sampling(temperature=0), max_tokens=count, **how)  # pyright: ignore[reportArgumentType] - a test's shorthand
        self.texts[number] = ""
        self.scheduler.submit(number, request)

    def done(self, number: int) -> Done:
        """Wait for the end of an answer that goes well."""
        while number not in self.ended:
            one = self._said.get(timeout=WAIT_S)
            if isinstance(one, Piece):
                self.texts[one.id] += one.text
            else:
                self.ended[one.id] = one
        one = self.ended[number]
        assert isinstance(one, Done), one
        return one

    def answer(self, number: int, prompt: str, count: int = 4) -> Done:
        """Ask and wait; the text must be right."""
        self.ask(number, prompt, count)
        done = self.done(number)
        assert self.texts[number] == self.backend.answer(prompt, count)
        return done

    def close(self) -> None:
        """End it when all is written."""
        self.backend.gate.set()
        self.scheduler.close()

    def _clock(self) -> float:
        self._looks += 1
        return self.backend.computed * TOKEN_S + self._looks * self._tick_s

    def _take(self, answers: Sequence[Answer]) -> None:
        for one in answers:
            self._said.put(one)
