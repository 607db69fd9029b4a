"""Which tokens are told as alternatives, and how likely they were."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulators.byte_vocabulary import ByteVocabulary
from sprat_agent.worker.batching.likelihood import chosen, log_softmax

VOCABULARY = ByteVocabulary()


@pytest.mark.parametrize("count", [0, 1, 3, VOCABULARY.size, VOCABULARY.size + 1])
def test_as_many_alternatives_are_told_as_were_asked_for(count: int) -> None:
    row = np.arange(VOCABULARY.size, dtype=np.float32)
    found = chosen(VOCABULARY, log_softmax(row), 7, count)
    likeliest = [*range(VOCABULARY.size)][::-1][:count]
    assert [one.data for one in found.top] == [VOCABULARY.name(token) for token in likeliest]
    assert found.data == VOCABULARY.name(7)


def test_probabilities_add_up() -> None:
    logprobs = log_softmax(np.array([1.0, 2.0, 3.0], np.float32))
    assert math.isclose(float(np.exp(logprobs).sum()), 1.0, rel_tol=1e-6)
