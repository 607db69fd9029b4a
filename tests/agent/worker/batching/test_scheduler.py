"""The scheduler over a backend whose answers tell of every mistake."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from simulators.counting_backend import CountingBackend
from sprat_agent.runtime.wire import (
    Answer,
    Chosen,
    Conversation,
    Count,
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
    Text,
)
from sprat_agent.worker.batching.prefixes import MIN_AWAITED
from sprat_agent.worker.batching.scheduler import Scheduler

WAIT_S = 20


@dataclass
class Desk:
    """A scheduler, and what it said by request."""

    backend: CountingBackend
    scheduler: Scheduler
    said: queue.SimpleQueue[Answer] = field(default_factory=queue.SimpleQueue[Answer])
    texts: dict[int, str] = field(default_factory=dict[int, str])
    ended: dict[int, Answer] = field(default_factory=dict[int, Answer])

    def take(self, answers: Sequence[Answer]) -> None:
        for one in answers:
            self.said.put(one)

    def ask(self, number: int, text: str, count: int = 8, **how: object) -> None:
        request = Request(Text(text), Sampling(temperature=0), max_tokens=count, **how)  # pyright: ignore[reportArgumentType] - a test's shorthand
        self.scheduler.submit(number, request)

    def hear(self) -> Answer:
        one = self.said.get(timeout=WAIT_S)
        assert one.id not in self.ended, "nothing comes after the end"
        if isinstance(one, Piece):
            self.texts[one.id] = self.texts.get(one.id, "") + one.text
        else:
            self.ended[one.id] = one
        return one

    def until_ended(self, *numbers: int) -> None:
        while not set(numbers) <= set(self.ended):
            self.hear()

    def done(self, number: int) -> Done:
        self.until_ended(number)
        one = self.ended[number]
        assert isinstance(one, Done)
        return one


def desk_of(slots: int, memory: int | None = None) -> Desk:
    backend = CountingBackend(slots, memory=memory)
    desk = Desk(backend, Scheduler(backend))
    loaded = desk.scheduler.load(Load("", backend.context, 1, "", slots=slots), desk.take)
    assert (loaded.context, loaded.slots) == (backend.context, slots)
    return desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = desk_of(2)
    yield made
    made.backend.gate.set()
    made.scheduler.close()
    assert made.backend.is_closed


def test_an_answer_is_what_its_prompt_says(desk: Desk) -> None:
    desk.ask(1, "once upon a time")
    done = desk.done(1)
    assert desk.texts[1] == desk.backend.answer("once upon a time", 8)
    assert (done.finish, done.prompt_tokens, done.completion_tokens) == ("length", 16, 8)


def test_requests_that_come_together_share_steps(desk: Desk) -> None:
    desk.backend.gate.clear()
    desk.ask(1, "one")
    desk.ask(2, "other")
    desk.backend.gate.set()
    desk.until_ended(1, 2)
    assert desk.texts[1] == desk.backend.answer("one", 8)
    assert desk.texts[2] == desk.backend.answer("other", 8)
    assert any(len(step) == 2 for step in desk.backend.steps)


def test_a_long_prompt_does_not_hold_an_answer_up(desk: Desk) -> None:
    desk.backend.gate.clear()
    desk.ask(1, "short", 20)
    desk.ask(2, "x" * 200, 1)
    desk.backend.gate.set()
    desk.until_ended(1, 2)
    mixed = [step for step in desk.backend.steps if {run.sequence for run in step} == {0, 1}]
    assert len(mixed) >= 200 // desk.backend.step_tokens
    assert desk.texts[1] == desk.backend.answer("short", 20)
    assert desk.texts[2] == desk.backend.answer("x" * 200, 1)


def test_a_third_request_waits_for_a_sequence(desk: Desk) -> None:
    for number in range(5):
        desk.ask(number, f"request {number}")
    desk.until_ended(*range(5))
    for number in range(5):
        assert desk.texts[number] == desk.backend.answer(f"request {number}", 8)


def test_a_prefix_shared_by_requests_that_come_together_is_computed_once() -> None:
    desk = desk_of(4)
    desk.backend.gate.clear()
    prefix = "the same beginning of every prompt, again and again, " * 3
    for number in range(4):
        desk.ask(number, f"{prefix}{number}", 2)
    desk.backend.gate.set()
    desk.until_ended(*range(4))
    for number in range(4):
        assert desk.texts[number] == desk.backend.answer(f"{prefix}{number}", 2)
    assert desk.backend.computed < 2 * len(prefix)
    first, *others = sorted(desk.done(number).cached_tokens for number in range(4))
    assert first == 0
    assert min(others) > len(prefix) - MIN_AWAITED
    desk.scheduler.close()


def test_a_conversation_that_goes_on_computes_only_what_is_new(desk: Desk) -> None:
    first = "a question that is long enough to be worth keeping"
    desk.ask(1, first)
    desk.until_ended(1)
    second = f"{first}{desk.texts[1]} and more"
    desk.ask(2, second)
    assert desk.done(2).cached_tokens >= len(first) + 7
    assert desk.texts[2] == desk.backend.answer(second, 8)


def test_a_fresh_request_computes_everything(desk: Desk) -> None:
    text = "a question that is long enough to be worth keeping"
    desk.ask(1, text)
    desk.until_ended(1)
    desk.ask(2, text, is_fresh=True)
    assert desk.done(2).cached_tokens == 0


def test_a_cancel_frees_the_sequence_within_one_step(desk: Desk) -> None:
    desk.ask(1, "first", 200)
    desk.ask(2, "second", 200)
    while not {1, 2} <= set(desk.texts):
        desk.hear()
    desk.backend.gate.clear()
    desk.ask(3, "third", 3)
    desk.scheduler.cancel(1)
    before = len(desk.backend.steps)
    desk.backend.gate.set()
    assert desk.done(1).finish == "cancelled"
    desk.until_ended(3)
    assert desk.texts[3] == desk.backend.answer("third", 3)
    begun = next(
        at
        for at, step in enumerate(desk.backend.steps)
        if any(run.start == 0 and len(run.tokens) == len("third") for run in step) and at >= 1
    )
    assert begun <= before + 2
    assert desk.done(2).completion_tokens == 200
    assert desk.texts[2] == desk.backend.answer("second", 200)


def test_a_queued_request_that_is_cancelled_never_runs(desk: Desk) -> None:
    desk.backend.gate.clear()
    for number in range(3):
        desk.ask(number, f"request {number}")
    desk.scheduler.cancel(2)
    desk.backend.gate.set()
    assert desk.done(2).finish == "cancelled"
    desk.until_ended(0, 1)
    assert 2 not in desk.texts


def test_a_step_that_fails_ends_its_requests_and_no_others(desk: Desk) -> None:
    desk.backend.failures = 1
    desk.ask(1, "the unlucky one with a text worth keeping")
    desk.until_ended(1)
    assert desk.ended[1] == Failed(1, "engine_error", "told to fail")
    desk.ask(2, "the unlucky one with a text worth keeping")
    assert desk.done(2).cached_tokens == 0
    expected = desk.backend.answer("the unlucky one with a text worth keeping", 8)
    assert desk.texts[2] == expected


def test_an_over_long_prompt_is_refused(desk: Desk) -> None:
    desk.ask(1, "x" * 300)
    desk.until_ended(1)
    refused = desk.ended[1]
    assert isinstance(refused, Failed)
    assert refused.code == "context_length_exceeded"


def test_a_stop_string_ends_an_answer(desk: Desk) -> None:
    whole = desk.backend.answer("stop here", 20)
    desk.ask(1, "stop here", 20, stop=(whole[5:8],))
    done = desk.done(1)
    assert desk.texts.get(1, "") == whole.partition(whole[5:8])[0]
    assert (done.finish, done.stopped_by) == ("stop", whole[5:8])


def test_log_probabilities_come_with_each_token(desk: Desk) -> None:
    desk.ask(1, "sure", 3, logprobs=2)
    chosen: list[Chosen] = []
    while 1 not in desk.ended:
        one = desk.hear()
        chosen.extend(one.chosen if isinstance(one, Piece) else ())
    assert b"".join(one.data for one in chosen).decode() == desk.backend.answer("sure", 3)
    for one in chosen:
        assert one.top[0].data == one.data
        assert one.top[0].logprob == one.logprob
        assert -1.0 < one.logprob < 0
        assert len(one.top) == 2


def test_an_echo_comes_before_the_answer(desk: Desk) -> None:
    desk.ask(1, "echo ", 3, is_echoed=True)
    desk.until_ended(1)
    assert desk.texts[1] == "echo " + desk.backend.answer("echo ", 3)


def test_vectors_are_made_beside_answers(desk: Desk) -> None:
    desk.ask(1, "words", 40)
    desk.scheduler.embed(Embed(2, (Text("four"), Text("sixsix"))))
    desk.until_ended(1, 2)
    made = desk.ended[2]
    assert isinstance(made, Embedded)
    assert made.prompt_tokens == 10
    assert [len(one) for one in made.vectors] == [16, 16]
    assert desk.texts[1] == desk.backend.answer("words", 40)


def test_a_prompt_is_counted_though_it_is_longer_than_the_context(desk: Desk) -> None:
    length = desk.backend.context + 5
    desk.scheduler.count(Count(1, Text("x" * length)))
    desk.scheduler.count(Count(2, Conversation((Message("user", "Hello"),))))
    desk.until_ended(1, 2)
    assert desk.ended[1] == Counted(1, length)
    refused = desk.ended[2]
    assert isinstance(refused, Failed)
    assert refused.code == "messages_refused"


def test_an_answer_that_repeats_itself_takes_fewer_steps_than_tokens() -> None:
    desk = desk_of(2, memory=1)
    desk.ask(1, "around and around", 100)
    assert desk.done(1).completion_tokens == 100
    assert desk.texts[1] == desk.backend.answer("around and around", 100)
    assert len(desk.backend.steps) < 60
    figures = desk.scheduler.figures()
    assert 0 < figures.accepted_tokens <= figures.drafted_tokens == desk.done(1).drafted_tokens
    desk.scheduler.close()


def test_a_right_guess_never_leads_beyond_a_stop_nor_the_context() -> None:
    desk = desk_of(2, memory=1)
    whole = desk.backend.answer("around and around", 60)
    desk.ask(1, "around and around", 200, stop=(whole[40:50],))
    desk.ask(2, "around and around", None)  # pyright: ignore[reportArgumentType] - until it is full
    assert desk.done(1).finish == "stop"
    assert desk.texts[1] == whole.partition(whole[40:50])[0]
    assert desk.done(2).prompt_tokens + desk.done(2).completion_tokens == desk.backend.context
    desk.scheduler.close()


def test_adapters_take_turns_and_never_share_a_step() -> None:
    desk = desk_of(4)
    desk.backend.gate.clear()
    adapters = ["", "a", "b", "a"]
    for number, adapter in enumerate(adapters):
        desk.ask(number, f"request {number}", 12, adapter=adapter)
    desk.backend.gate.set()
    desk.until_ended(*range(4))
    for number, adapter in enumerate(adapters):
        assert desk.texts[number] == desk.backend.answer(f"request {number}", 12, adapter)
    steps = desk.backend.adapters_of_steps[4:28]  # all have come, and none is over
    assert all(len(set(steps[at : at + 3])) == 3 for at in range(22))
    desk.scheduler.close()


def test_a_prefix_serves_the_adapter_that_computed_it_and_no_other() -> None:
    desk = desk_of(4)
    text = "a question that is long enough to be worth keeping"
    for number, adapter in enumerate(["", "a", "b", "a", ""]):
        desk.ask(number, text, adapter=adapter)
        desk.until_ended(number)
        assert desk.texts[number] == desk.backend.answer(text, 8, adapter)
    cached = [desk.done(number).cached_tokens for number in range(5)]
    assert cached == [0, 0, 0, len(text) - 1, len(text) - 1]
    desk.scheduler.close()


def test_vectors_are_the_models_own_between_answers_with_an_adapter(desk: Desk) -> None:
    desk.ask(1, "words", 40, adapter="a")
    desk.scheduler.embed(Embed(2, (Text("four"),)))  # the backend watches
    desk.until_ended(1, 2)
    assert isinstance(desk.ended[2], Embedded)
    assert desk.texts[1] == desk.backend.answer("words", 40, "a")


def test_an_adapter_that_is_not_there_is_refused_by_name(desk: Desk) -> None:
    desk.ask(1, "words", adapter="c")
    desk.until_ended(1)
    message = "the adapter 'c' is not here; there are: a, b"
    assert desk.ended[1] == Failed(1, "model_not_found", message)


def test_without_memory_the_engine_ends_instead_of_failing_one_request_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: queue.SimpleQueue[threading.ExceptHookArgs] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", ended.put)
    desk = desk_of(1)

    def sampler(_sampling: Sampling) -> None:
        raise MemoryError

    monkeypatch.setattr(desk.backend, "sampler", sampler)
    desk.ask(1, "once upon a time")
    assert ended.get(timeout=WAIT_S).exc_type is MemoryError
    desk.scheduler.close()


@pytest.mark.parametrize("seed", range(4))
def test_1000_random_cancels_and_long_prompts_leave_no_slot_and_no_wrong_answer(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - a test's choices
    desk = desk_of(4)
    prefixes = ["a system prompt that many share " * 3, "another one, as long as it " * 3, ""]
    asked: dict[int, tuple[str, int, str]] = {}
    for number in range(250):
        text = draw.choice(prefixes) + "".join(draw.choices("xyz ", k=draw.randint(1, 60)))
        if draw.random() < 0.1:
            text = "z" * draw.randint(256, 400)
        asked[number] = (text, draw.randint(1, 30), draw.choice(["", "", "a", "b"]))
        desk.ask(number, *asked[number][:2], adapter=asked[number][2])
        if draw.random() < 0.4:
            desk.scheduler.cancel(draw.randrange(number + 1))
        while draw.random() < 0.3 and not desk.said.empty():
            desk.hear()
    desk.until_ended(*asked)
    for number, (text, count, adapter) in asked.items():
        end, said = desk.ended[number], desk.texts.get(number, "")
        if len(text) >= 256:
            assert isinstance(end, Failed) or (isinstance(end, Done) and end.finish == "cancelled")
            continue
        assert isinstance(end, Done)
        expected = desk.backend.answer(text, count, adapter)
        assert expected.startswith(said)
        assert end.finish == "cancelled" or said == expected
    assert desk.scheduler.figures().busy_slots == 0
    desk.scheduler.close()
