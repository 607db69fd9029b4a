"""Requests that are held to a grammar, while what that needs is made ready."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from simulators.counting_backend import CountingBackend
from simulators.slow_vocabulary import SlowVocabulary
from simulators.waiting import until
from sprat_agent.runtime.wire import Answer, Done, Failed, Load, Piece, Request, Sampling, Text
from sprat_agent.worker.batching.scheduler import QUIET_S, Scheduler

WAIT_S = 20
BOOLEAN: dict[str, object] = {"type": "boolean"}


@dataclass
class Desk:
    """A scheduler whose vocabulary is read when a test says so."""

    quiet_s: float = WAIT_S
    can_generate: bool = True
    said: queue.SimpleQueue[Answer] = field(default_factory=queue.SimpleQueue[Answer])

    def __post_init__(self) -> None:
        self.backend = CountingBackend()
        self.backend.can_generate = self.can_generate
        self.vocabulary = self.backend.vocabulary = SlowVocabulary()
        self.scheduler = Scheduler(self.backend, time.monotonic, self.quiet_s)
        self.scheduler.load(Load("", self.backend.context, 1, "", slots=2), self._take)

    def _take(self, answers: Sequence[Answer]) -> None:
        for one in answers:
            self.said.put(one)

    def ask(self, number: int, schema: dict[str, object] | None = None) -> None:
        request = Request(Text("once"), Sampling(temperature=0), max_tokens=8, schema=schema)
        self.scheduler.submit(number, request)

    def answer(self) -> tuple[int, str, Done | Failed]:
        """Return the next answer: its number, its text and its end."""
        text = ""
        while isinstance(one := self.said.get(timeout=WAIT_S), Piece):
            text += one.text
        assert isinstance(one, Done | Failed)
        return one.id, text, one


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.vocabulary.gate.set()
    made.scheduler.close()


def test_others_are_answered_while_the_vocabulary_is_read(desk: Desk) -> None:
    desk.ask(1, BOOLEAN)
    assert desk.vocabulary.is_begun.wait(WAIT_S)
    desk.ask(2)
    number, text, _ = desk.answer()
    assert (number, text) == (2, desk.backend.answer("once", 8))
    desk.vocabulary.gate.set()
    number, text, _ = desk.answer()
    assert (number, text) == (1, "false")


async def test_an_engine_that_only_holds_requests_back_is_at_rest(desk: Desk) -> None:
    desk.ask(1, BOOLEAN)
    assert desk.vocabulary.is_begun.wait(WAIT_S)
    await until(lambda: desk.scheduler.stalled_s() == 0.0)
    desk.vocabulary.gate.set()
    assert desk.answer()[:2] == (1, "false")


def test_a_request_that_is_held_back_can_be_cancelled(desk: Desk) -> None:
    desk.ask(1, BOOLEAN)
    desk.ask(2, BOOLEAN)
    assert desk.vocabulary.is_begun.wait(WAIT_S)
    desk.scheduler.cancel(1)
    number, text, end = desk.answer()
    assert isinstance(end, Done)
    assert (number, text, end.finish) == (1, "", "cancelled")
    desk.vocabulary.gate.set()
    assert desk.answer()[:2] == (2, "false")


def test_a_vocabulary_that_cannot_be_read_fails_the_request_and_is_tried_again(desk: Desk) -> None:
    desk.vocabulary.gate.set()
    desk.vocabulary.failures = 1
    desk.ask(1, BOOLEAN)
    number, _, end = desk.answer()
    assert isinstance(end, Failed)
    assert (number, end.code) == (1, "engine_error")
    desk.ask(2, BOOLEAN)
    assert desk.answer()[:2] == (2, "false")


def test_the_vocabulary_is_read_when_nobody_asked_for_a_while() -> None:
    desk = Desk(quiet_s=0.01)
    assert desk.vocabulary.is_begun.wait(WAIT_S)
    desk.ask(1)
    assert desk.answer()[:2] == (1, desk.backend.answer("once", 8))
    desk.vocabulary.gate.set()
    desk.scheduler.close()
    assert 0 < QUIET_S < WAIT_S


def test_a_model_that_makes_no_texts_never_reads_its_vocabulary() -> None:
    desk = Desk(quiet_s=0.01, can_generate=False)
    desk.ask(1, BOOLEAN)
    _, _, end = desk.answer()
    assert isinstance(end, Failed)
    assert end.code == "not_supported"
    desk.scheduler.close()
    assert not desk.vocabulary.is_begun.is_set()


def test_what_is_held_back_is_answered_before_the_model_is_freed() -> None:
    desk = Desk()
    desk.ask(1, BOOLEAN)
    assert desk.vocabulary.is_begun.wait(WAIT_S)
    desk.vocabulary.gate.set()
    desk.scheduler.close()
    assert desk.answer()[:2] == (1, "false")
