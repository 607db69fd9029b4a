from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.worker.batching.batch import Pending, Run, compose, turn

ROOM = 64
ADAPTERS = ("", "a", "b", "c")


@st.composite
def some_pending(draw: st.DrawFn) -> list[Pending]:
    count = draw(st.integers(0, 8))
    pending: list[Pending] = []
    for number in range(count):
        is_prompt = draw(st.booleans())
        length = draw(st.integers(1, 100 if is_prompt else 4))
        pending.append(Pending(number, draw(st.integers(0, 50)), list(range(length)), is_prompt))
    return pending


@given(some_pending(), st.integers(1, ROOM))
def test_a_step_has_all_answers_and_what_fits_of_the_prompts(
    pending: list[Pending], chunk: int
) -> None:
    runs = compose(pending, ROOM, chunk)
    by_sequence = {run.sequence: run for run in runs}
    assert len(by_sequence) == len(runs)
    assert sum(len(run.tokens) for run in runs) <= ROOM
    for one in pending:
        run = by_sequence.get(one.sequence)
        if not one.is_prompt:
            assert run == Run(one.sequence, one.start, one.tokens, len(one.tokens))
        elif run:
            assert run.start == one.start
            assert list(run.tokens) == list(one.tokens[: len(run.tokens)])
            assert run.rows == (len(run.tokens) == len(one.tokens))
    assert not pending or runs


@given(some_pending(), st.integers(1, ROOM))
def test_prompts_beside_answers_stay_within_the_chunk(pending: list[Pending], chunk: int) -> None:
    runs = compose(pending, ROOM, chunk)
    prompts = {one.sequence for one in pending if one.is_prompt}
    if len(prompts) < len(pending):
        assert sum(len(run.tokens) for run in runs if run.sequence in prompts) <= chunk


def test_the_oldest_prompt_is_computed_first() -> None:
    pending = [
        Pending(0, 0, [1] * 50, is_prompt=True),
        Pending(1, 0, [2] * 50, is_prompt=True),
        Pending(2, 9, [3], is_prompt=False),
    ]
    assert [(run.sequence, len(run.tokens), run.rows) for run in compose(pending, 512, 60)] == [
        (2, 1, 1),
        (0, 50, 1),
        (1, 10, 0),
    ]


@given(st.lists(st.sets(st.sampled_from(ADAPTERS), min_size=1), min_size=1, max_size=40))
def test_between_two_turns_of_an_adapter_each_other_has_one_at_most(
    busy: list[set[str]],
) -> None:
    last = ""
    waited: dict[str, set[str]] = {}  # for each that waits: who had a turn since it came
    for adapters in busy:
        last = turn(adapters, last)
        assert last in adapters
        waited = {one: waited.get(one, set()) for one in adapters - {last}}
        for others in waited.values():
            assert last not in others
            others.add(last)


@dataclass
class Work:
    """What one request still has to compute."""

    adapter: str
    prompt: int  # tokens
    answer: int


@st.composite
def some_work(draw: st.DrawFn) -> list[Work]:
    one = st.builds(Work, st.sampled_from(ADAPTERS), st.integers(1, 150), st.integers(1, 6))
    return draw(st.lists(one, min_size=1, max_size=6))


@given(some_work(), st.integers(1, ROOM))
def test_all_is_computed_in_steps_of_one_adapter_and_no_answer_waits_for_long(
    work: list[Work], chunk: int
) -> None:
    open_ones = dict(enumerate(work))
    last = ""
    waiting = dict.fromkeys(open_ones, 0)  # steps since an answer had a token
    while open_ones:
        pending = [
            Pending(number, 0, [7] * (one.prompt or 1), bool(one.prompt), one.adapter)
            for number, one in open_ones.items()
        ]
        last = turn({one.adapter for one in pending}, last)
        runs = compose(pending, ROOM, chunk, last)
        assert runs
        assert {open_ones[run.sequence].adapter for run in runs} == {last}
        has_answers = any(not one.is_prompt for one in pending)
        of_prompts = sum(len(run.tokens) for run in runs if open_ones[run.sequence].prompt)
        assert of_prompts <= (chunk if has_answers else ROOM)
        answers = {number for number, one in open_ones.items() if not one.prompt}
        for run in runs:
            one = open_ones[run.sequence]
            if one.prompt:
                one.prompt -= len(run.tokens)
            else:
                one.answer -= 1
            waiting[run.sequence] = 0
        for number in answers - {run.sequence for run in runs}:
            waiting[number] += 1
            assert waiting[number] < len(ADAPTERS)
        open_ones = {number: one for number, one in open_ones.items() if one.answer}


def test_prompts_of_one_adapter_stay_within_the_chunk_beside_answers_of_another() -> None:
    pending = [
        Pending(0, 0, [1] * 50, is_prompt=True, adapter="a"),
        Pending(1, 9, [3], is_prompt=False),
    ]
    assert [len(run.tokens) for run in compose(pending, 512, 20, "a")] == [20]
    assert [len(run.tokens) for run in compose(pending[:1], 512, 20, "a")] == [50]
