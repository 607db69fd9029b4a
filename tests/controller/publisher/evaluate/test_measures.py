from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sprat_controller.publisher.evaluate.measures import Logits, Sums, log_softmax

WIDTH = 5
ROWS = arrays(np.float32, (3, WIDTH), elements=st.floats(-100, 100, width=32))
TARGETS = np.array([0, 4, 2], np.int32)


def sums(logits: Logits, reference: Logits | None) -> Sums:
    made = Sums()
    made.add(logits, TARGETS, reference)
    return made


@given(ROWS)
def test_probabilities_add_up_to_one(rows: Logits) -> None:
    for row in rows:
        assert np.exp(log_softmax(row)).sum() == pytest.approx(1)


@given(ROWS)
def test_nothing_diverges_from_itself(rows: Logits) -> None:
    made = sums(rows, rows)
    assert (made.divergence, made.same_top, made.tokens) == (0, 3, 3)
    assert made.surprise == sums(rows, None).surprise


@given(ROWS, ROWS)
def test_a_divergence_is_never_negative(rows: Logits, reference: Logits) -> None:
    assert sums(rows, reference).divergence >= 0


@given(ROWS, st.floats(-50, 50, width=32))
def test_only_differences_of_logits_count(rows: Logits, shift: float) -> None:
    moved = rows + np.float32(shift)
    assert sums(moved, rows).divergence == pytest.approx(0, abs=1e-6)


def test_the_figures_are_those_of_the_formulae() -> None:
    # Two tokens: p = (3/4, 1/4) and q = (1/2, 1/2).
    reference = np.log(np.array([[0.75, 0.25]], np.float32))
    logits = np.zeros((1, 2), np.float32)
    made = Sums()
    made.add(logits, np.array([1], np.int32), reference)
    assert made.surprise == pytest.approx(math.log(2))
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert made.divergence == pytest.approx(expected)
    assert made.same_top == 1  # of equals the first


def test_uniform_logits_are_as_perplex_as_there_are_tokens() -> None:
    made = sums(np.zeros((3, WIDTH), np.float32), None)
    assert math.exp(made.surprise / made.tokens) == pytest.approx(WIDTH)


def test_what_is_no_number_is_noticed() -> None:
    rows = np.zeros((3, WIDTH), np.float32)
    assert sums(rows, None).is_finite
    rows[1, 1] = np.nan
    assert not sums(rows, None).is_finite
