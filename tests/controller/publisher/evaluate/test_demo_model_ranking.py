"""The demo's trained model: what evaluation says of its variants is what everyone knows of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from sprat_controller.publisher.evaluate.evaluate import Scores, evaluate
from sprat_controller.publisher.quantize import quantize

FOLDER = Path(__file__).resolve().parents[4] / "deploy" / "demo-model"
ORIGINAL = FOLDER / "weights" / "sprat-demo-1.0.0.gguf"
KINDS = ("f16", "q8_0", "q5_1", "q4_0")  # from the best to the worst


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> list[Scores]:
    folder = tmp_path_factory.mktemp("variants")
    for kind in KINDS:
        quantize(ORIGINAL, folder / f"{kind}.gguf", kind)
    return evaluate(
        ORIGINAL,
        {kind: folder / f"{kind}.gguf" for kind in KINDS},
        (FOLDER / "calibration.txt").read_text(),
        scratch=folder,
        report=lambda _what, _done, _total: None,
        rates=False,
    )


def test_fewer_bits_are_smaller_and_lose_more(scores: list[Scores]) -> None:
    for better, worse in pairwise(scores):
        assert worse.bytes < better.bytes
        assert worse.kl_divergence > better.kl_divergence, worse.variant
        assert worse.same_top <= better.same_top, worse.variant
        # Holds for the shipped weights on this text, not of itself: docs/publish.md says why.
        assert worse.perplexity >= better.perplexity, worse.variant


def test_the_original_form_loses_nothing(scores: list[Scores]) -> None:
    assert scores[0].loss == 0
    assert scores[0].same_top == 1


def test_the_model_has_learned_its_language(scores: list[Scores]) -> None:
    """It is far less surprised than one that knows nothing; else the ranking would say little."""
    assert scores[0].perplexity < 50
