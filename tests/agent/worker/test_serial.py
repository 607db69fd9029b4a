"""One request after another: order, cancellation, errors."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import pytest
from sprat_agent.runtime.wire import (
    Answer,
    Conversation,
    Done,
    Failed,
    Load,
    Loaded,
    Message,
    Piece,
    Request,
)
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.serial import Finished, Generation, SerialEngine


class Steps:
    """Generates a letter whenever it is let."""

    def __init__(self) -> None:
        self.let = threading.Semaphore(0)
        self.is_closed = False

    def load(self, source: Load) -> int:
        return source.context

    def generate(self, request: Request) -> Generation:
        assert isinstance(request.prompt, Conversation)
        text = request.prompt.messages[0].content
        if text == "refuse":
            raise EngineError("messages_refused", "not this")
        for char in text:
            assert self.let.acquire(timeout=20)
            yield char
        if text == "break":
            raise ValueError("broken")
        return Finished("stop", 1, len(text), 0.5, 0.25)

    def close(self) -> None:
        self.is_closed = True


class Rig:
    def __init__(self) -> None:
        self.model = Steps()
        self.engine = SerialEngine(self.model)
        self._answers: queue.Queue[Answer] = queue.Queue()
        assert self.engine.load(Load("", 64, 1, ""), self._take) == Loaded(64, slots=1)

    def submit(self, request_id: int, text: str) -> None:
        self.engine.submit(request_id, Request(Conversation((Message("user", text),))))

    def _take(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            self._answers.put(answer)

    def next(self) -> Answer:
        return self._answers.get(timeout=20)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.engine.close()
    assert made.model.is_closed


def test_requests_are_answered_in_the_order_they_came(rig: Rig) -> None:
    rig.submit(1, "a")
    rig.submit(2, "b")
    rig.model.let.release(2)
    assert [rig.next() for _ in range(4)] == [
        Piece(1, "a"),
        Done(1, "stop", 1, 1, 500, 250),
        Piece(2, "b"),
        Done(2, "stop", 1, 1, 500, 250),
    ]


def test_a_cancelled_request_stops_between_two_tokens_or_never_begins(rig: Rig) -> None:
    rig.submit(1, "abc")
    rig.submit(2, "d")
    rig.submit(3, "e")
    rig.model.let.release()
    assert rig.next() == Piece(1, "a")
    rig.engine.cancel(1)
    rig.engine.cancel(2)
    rig.engine.cancel(99)
    rig.model.let.release(2)
    ends = [rig.next() for _ in range(4)]
    assert [one.id for one in ends] == [1, 2, 3, 3]
    assert [one.finish for one in ends if isinstance(one, Done)] == [
        "cancelled",
        "cancelled",
        "stop",
    ]


def test_an_error_ends_its_request_only(rig: Rig) -> None:
    rig.model.let.release(6)
    for at, text in enumerate(("refuse", "break", "a")):
        rig.submit(at, text)
    assert rig.next() == Failed(0, "messages_refused", "not this")
    assert [rig.next() for _ in range(6)][-1] == Failed(
        1, "engine_error", "the engine failed: broken"
    )
    assert rig.next() == Piece(2, "a")
    assert isinstance(rig.next(), Done)


def test_it_stalls_only_while_it_is_busy(rig: Rig) -> None:
    assert rig.engine.stalled_s() == 0
    rig.submit(1, "a")
    waited = threading.Event()
    while rig.engine.stalled_s() == 0:
        waited.wait(0.001)
    rig.model.let.release()
    assert isinstance(rig.next(), Piece)
    assert isinstance(rig.next(), Done)
