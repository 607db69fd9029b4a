"""The bound of a probe's text: measured of the original, and kept by each variant or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from shipped import CALIBRATION, GOOD, WORSE
from simulators import demo_model
from sprat_controller.publisher.evaluate.evaluate import EvaluateError
from sprat_controller.publisher.originals import Original, prepare
from sprat_controller.publisher.probe_file import ProbeText
from sprat_controller.publisher.probe_text import measured
from sprat_controller.publisher.quality import QualityError
from sprat_controller.publisher.quantize import quantize

TEXT = CALIBRATION.read_text(encoding="utf-8")
TOKENS = 255


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return prepare(GOOD, tmp_path_factory.mktemp("good"), None, quiet)


def test_the_margin_is_on_the_originals_own(good: Original, tmp_path: Path) -> None:
    files = {"f16": GOOD}
    asked = ProbeText(TEXT, TOKENS, 10)
    found = measured(good, files, asked, tmp_path, quiet)
    wider = measured(good, files, ProbeText(TEXT, TOKENS, 21), tmp_path, quiet)
    assert (found.text, found.tokens) == (TEXT, TOKENS)
    assert wider.max_perplexity_milli == pytest.approx(found.max_perplexity_milli * 1.1, abs=2)


def test_a_variant_that_would_fail_its_own_probe_is_refused(good: Original, tmp_path: Path) -> None:
    with pytest.raises(QualityError, match=r"worse has .*: leave these variants out"):
        measured(good, {"worse": WORSE}, ProbeText(TEXT, TOKENS, 1), tmp_path, quiet)
    with pytest.raises(QualityError, match=r"may be 1\.001, and f16 has"):
        measured(good, {"f16": GOOD}, ProbeText(TEXT, TOKENS, 10, 1001), tmp_path, quiet)


def test_a_text_that_is_too_short_is_refused(good: Original, tmp_path: Path) -> None:
    with pytest.raises(EvaluateError, match=r"1,?024"):
        measured(good, {"f16": GOOD}, ProbeText("A fish.", TOKENS, 10), tmp_path, quiet)


def test_of_a_quantized_model_the_bound_must_be_said(tmp_path: Path) -> None:
    path = tmp_path / "q.gguf"
    quantize(GOOD, path, "q4_0")
    lost = prepare(path, tmp_path, None, quiet)
    with pytest.raises(QualityError, match="or say max_perplexity"):
        measured(lost, {"q4_0": path}, ProbeText(TEXT, TOKENS, 10), tmp_path, quiet)
    said = measured(lost, {"q4_0": path}, ProbeText(TEXT, TOKENS, 10, 9_000), tmp_path, quiet)
    assert said.max_perplexity_milli == 9_000


def test_an_original_that_knows_nothing_of_the_text_is_refused(tmp_path: Path) -> None:
    untrained = prepare(demo_model.make(tmp_path / "tiny.gguf"), tmp_path, None, quiet)
    with pytest.raises(QualityError, match="never trained"):
        measured(untrained, {}, ProbeText(TEXT, TOKENS, 10), tmp_path, quiet)
