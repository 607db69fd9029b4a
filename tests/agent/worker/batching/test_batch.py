from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.worker.batching.batch import Pending, Run, compose

ROOM = 64


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
