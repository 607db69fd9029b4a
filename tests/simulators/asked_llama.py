"""llama.cpp itself under a scheduler in this process, asked one thing after another or at once."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from itertools import count

from sprat_agent.runtime.wire import (
    Answer,
    Chosen,
    Conversation,
    Counted,
    Done,
    Embed,
    Embedded,
    Failed,
    Load,
    Message,
    Piece,
    Request,
    Sampling,
    Score,
    Scored,
    Text,
)
from sprat_agent.worker.batching.scheduler import Scheduler
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.llama import LlamaBackend

CONTEXT = 256
WAIT_S = 30


class LlamaModel:
    """A scheduler over llama.cpp, and what it says."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(LlamaBackend())
        self.said: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.chosen: list[Chosen] = []
        self._numbers = count()

    def load(self, source: Load) -> int:
        return self.scheduler.load(source, self._take).context

    def submit(self, what: Request) -> int:
        number = next(self._numbers)
        self.scheduler.submit(number, what)
        return number

    def hear(self) -> Answer:
        return self.said.get(timeout=WAIT_S)

    def embed(self, *texts: str) -> Embedded | Failed:
        self.scheduler.embed(Embed(next(self._numbers), tuple(Text(text) for text in texts)))
        answer = self.hear()
        assert isinstance(answer, Embedded | Failed)
        return answer

    def score(self, text: str, chunk: int, limit: int) -> Scored | Failed:
        self.scheduler.score(Score(next(self._numbers), text, chunk, limit))
        answer = self.hear()
        assert isinstance(answer, Scored | Failed)
        return answer

    def close(self) -> None:
        self.scheduler.close()

    def _take(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            self.said.put(answer)


def chat(text: str = "Hello", **how: object) -> Request:
    """Return a greedy request that computes everything, but for what `how` says otherwise."""
    sampled = {name: how.pop(name) for name in Sampling.__struct_fields__ if name in how}
    sampling = Sampling(**{"temperature": 0.0, **sampled})  # pyright: ignore[reportArgumentType] - a test's shorthand
    fixed = {"sampling": sampling, "max_tokens": 16, "is_fresh": True}
    return Request(Conversation((Message("user", text),)), **{**fixed, **how})  # pyright: ignore[reportArgumentType] - a test's shorthand


def ask(model: LlamaModel, what: Request) -> tuple[str, Done]:
    """Return the answer, or raise `EngineError`."""
    model.submit(what)
    pieces: list[str] = []
    model.chosen.clear()
    while True:
        match model.hear():
            case Piece(text=text, chosen=chosen):
                pieces.append(text)
                model.chosen += chosen
            case Done() as done:
                return "".join(pieces), done
            case Failed(code=code, message=message):
                raise EngineError(code, message)
            case Embedded() | Counted() | Scored():
                raise AssertionError("nobody asked for vectors or numbers")


def ask_together(model: LlamaModel, what: Sequence[Request]) -> list[str]:
    """Ask all at once; return what each is answered."""
    texts = dict.fromkeys([model.submit(one) for one in what], "")
    open_ones = set(texts)
    while open_ones:
        match model.hear():
            case Piece(id=number, text=text):
                texts[number] += text
            case Done(id=number):
                open_ones.remove(number)
            case other:
                raise AssertionError(f"expected a text, found {other}")
    return list(texts.values())
