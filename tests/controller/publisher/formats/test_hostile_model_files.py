"""10,000 mutants of model files and of what is beside them: read, or refused in a sentence.

Each is read in a process that may take 64 MiB more than it has, and by no more calls of functions
than a file of its size is worth. What is accepted is compared with the file by other means.
"""

from __future__ import annotations

import pytest
from simulators import hostile_models

# How many mutants of each family: 10,000 in all.
SHARES = {
    "gguf": 2000,
    "safetensors": 2000,
    "onnx": 2000,
    "config": 1000,
    "multimodal": 500,
    "genai": 500,
    "tokenizer": 500,
    "index": 500,
    "weights": 300,
    "graph": 400,
    "card": 300,
}


def judge(family: str, count: int, seed: int) -> None:
    outcome = hostile_models.judge(family, count, seed)
    print(f"{family}: {outcome}")  # noqa: T201 - shown if it fails, and in the log of a full run
    assert outcome.failures == []
    assert outcome.accepted + outcome.refused == count
    assert outcome.accepted > count // 100
    # A card says what it says: there is nothing to refuse.
    assert outcome.refused > count // 10 or family == "card"


def test_all_families_are_judged_and_are_10000() -> None:
    assert set(SHARES) == set(hostile_models.FAMILIES)
    assert sum(SHARES.values()) == 10_000


@pytest.mark.parametrize("family", SHARES)
def test_mutants_are_read_or_refused_within_bounds(family: str) -> None:
    judge(family, SHARES[family], seed=47)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", SHARES)
def test_ten_times_as_many_mutants_are_read_or_refused_within_bounds(family: str) -> None:
    judge(family, 10 * SHARES[family], seed=48)
