"""The trained files that are shipped: whole, small, and what they say they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import sprat_proto.gguf as model_files
from shipped import CALIBRATION, FISHERMAN, GOOD, WEIGHTS, WORSE, shipped_tokenizer
from sprat_proto import gguf_adapter
from tokenizer import TEMPLATE

MOST_BYTES = 10_000_000
MODELS = (GOOD, WORSE)


@pytest.mark.parametrize("path", MODELS, ids=["good", "worse"])
def test_a_model_is_one_that_sprat_runs(path: Path) -> None:
    file = model_files.check(path)
    facts = model_files.facts(path, "f16")
    assert file.metadata["tokenizer.chat_template"] == TEMPLATE
    assert file.metadata["general.name"] == "Sprat demo"
    assert facts.licence == "Apache-2.0"
    assert 1_000_000 < facts.parameters < 5_000_000
    assert facts.embedding_length % 256 == 0  # so that K-quants and ternary forms are possible


def test_the_releases_differ_in_weights_and_version_only() -> None:
    good, worse = (model_files.check(path) for path in MODELS)
    assert good.tensors == worse.tensors
    assert (good.metadata["general.version"], worse.metadata["general.version"]) == (
        "1.0.0",
        "1.1.0",
    )
    assert shipped_tokenizer(GOOD).merges == shipped_tokenizer(WORSE).merges
    assert GOOD.read_bytes() != WORSE.read_bytes()


@pytest.mark.parametrize("path", MODELS, ids=["good", "worse"])
def test_the_adapter_fits_both_releases(path: Path) -> None:
    gguf_adapter.check(FISHERMAN, [model_files.check(path)], "fisherman")


def test_all_shipped_files_together_are_small() -> None:
    shipped = [path for path in WEIGHTS.iterdir() if path.is_file()]
    assert {GOOD, WORSE, FISHERMAN} <= set(shipped)
    assert sum(path.stat().st_size for path in shipped) <= MOST_BYTES


def test_the_calibration_text_is_long_enough_to_judge_by() -> None:
    text = CALIBRATION.read_text(encoding="utf-8")
    assert 2_000 <= len(shipped_tokenizer().encode(text)) <= 8_000
