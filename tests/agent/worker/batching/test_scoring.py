"""Scoring a text: which tokens are computed, in which order, and what is added up."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.byte_vocabulary import BOS, ByteVocabulary
from simulators.counting_backend import CountingBackend
from sprat_agent.runtime.wire import Score
from sprat_agent.worker.batching.scoring import ROWS, Scoring, surprise
from sprat_agent.worker.decoding.decoding import Row
from sprat_agent.worker.engine import EngineError

CHUNK = 64
# A row of the simulator has 9 for one token and 0 for all others.
OTHERS = ByteVocabulary().size - 1
EXPECTED = math.log(math.exp(9) + OTHERS) - 9


def backend_with(*, is_framed: bool = False, context: int = 256) -> CountingBackend:
    backend = CountingBackend(context=context)
    backend.vocabulary = ByteVocabulary(is_framed=is_framed)
    return backend


def run(backend: CountingBackend, text: str, limit: int = 4096) -> Scoring:
    scoring = Scoring(Score(1, text, CHUNK, limit), backend)
    while not scoring.is_over:
        scoring.advance(0, lambda: None)
        assert backend.held[0] == []
    return scoring


@given(st.integers(CHUNK, 400), st.integers(1, 200))
def test_of_each_whole_chunk_the_second_half_is_scored(length: int, limit: int) -> None:
    backend = backend_with()
    scored = run(backend, "x" * length, limit).scored()
    per_chunk = CHUNK - 1 - CHUNK // 2
    chunks = max(1, min(length // CHUNK, limit // per_chunk))
    assert scored.tokens == per_chunk * chunks
    assert sum(run.start == 0 for step in backend.steps for run in step) == chunks
    rows = [run.rows for step in backend.steps for run in step]
    assert sum(rows) == scored.tokens
    assert max(rows) <= ROWS


def test_the_surprise_is_that_of_the_tokens_that_came_next() -> None:
    text = ["x"] * CHUNK
    backend = backend_with()
    for at in range(CHUNK // 2 + 1, CHUNK):  # each as the simulated model expects it
        text[at] = chr(backend.expected([ord(one) for one in text[:at]]))
    scored = run(backend, "".join(text)).scored()
    assert scored.surprise == pytest.approx(EXPECTED * scored.tokens, rel=1e-6)
    other = run(backend_with(), "x" * CHUNK).scored()
    assert other.surprise > scored.surprise + 100


def test_a_chunk_begins_with_the_models_beginning_in_place_of_its_first_token() -> None:
    backend = backend_with(is_framed=True)
    run(backend, "abcdefgh" * 24)
    first = [run.tokens[0] for step in backend.steps for run in step if run.start == 0]
    assert first == [BOS] * 3
    begun = [step[0] for step in backend.steps if step[0].start == 0]
    assert list(begun[1].tokens[1:4]) == list(b"abc")  # the h before them gave its place


def test_steps_follow_on_each_other_and_are_told() -> None:
    backend, told = backend_with(), list[int]()
    scoring = Scoring(Score(1, "y" * CHUNK, CHUNK, 1), backend)
    scoring.advance(1, lambda: told.append(1))
    runs = [step[0] for step in backend.steps]
    assert {run.sequence for run in runs} == {1}
    assert all(one.start + len(one.tokens) == other.start for one, other in pairwise(runs))
    assert len(told) == len(runs)


@pytest.mark.parametrize(
    ("text", "chunk", "code"),
    [
        ("x" * 63, 64, "messages_refused"),
        ("", 64, "messages_refused"),
        ("x" * 600, 512, "context_length_exceeded"),
        ("x" * 600, 63, "context_length_exceeded"),
    ],
)
def test_what_cannot_be_scored_is_refused(text: str, chunk: int, code: str) -> None:
    with pytest.raises(EngineError) as caught:
        Scoring(Score(1, text, chunk, 510), backend_with())
    assert caught.value.code == code


def test_a_step_that_fails_leaves_the_sequence_empty() -> None:
    backend = backend_with()
    backend.failures = 1
    scoring = Scoring(Score(1, "x" * CHUNK, CHUNK, 1), backend)
    with pytest.raises(EngineError):
        scoring.advance(0, lambda: None)
    assert backend.held[0] == []


def test_weights_that_give_no_numbers_are_refused() -> None:
    backend = backend_with()

    def row(at: int) -> Row:
        del at
        return np.full(OTHERS + 1, np.nan, np.float32)

    backend.row = row
    with pytest.raises(EngineError, match="its weights are bad"):
        run(backend, "x" * CHUNK).scored()


def test_surprise_is_exact_where_single_precision_is_not() -> None:
    row = np.array([1000.0, 1000.0, -1000.0], np.float32)
    assert surprise(row, 0) == pytest.approx(math.log(2), rel=1e-12)
    assert surprise(row, 2) == pytest.approx(2000 + math.log(2), rel=1e-12)
