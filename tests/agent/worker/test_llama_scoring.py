"""A device's perplexity of a text is the publisher's, with llama.cpp itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from shipped import CALIBRATION, GOOD, WORSE
from simulators.asked_llama import LlamaModel
from simulators.models import TEMPLATE
from sprat_agent.runtime.wire import Failed, Load, Scored
from sprat_controller.publisher.evaluate.evaluate import evaluate
from sprat_controller.publisher.quantize import quantize
from sprat_proto.probes import CHUNK, TOLERANCE_PERMILLE

TOKENS = 510
TEXT = CALIBRATION.read_text(encoding="utf-8")


def on_device(path: Path, *, kv_type: str = "f16", slots: int = 1) -> float:
    model = LlamaModel()
    model.load(Load(str(path), 1024, 1, TEMPLATE, slots=slots, kv_type=kv_type))
    try:
        scored = model.score(TEXT, CHUNK, TOKENS)
    finally:
        model.close()
    assert isinstance(scored, Scored)
    assert scored.tokens == TOKENS
    return math.exp(scored.surprise / scored.tokens)


def test_device_and_publisher_agree_within_the_tolerance(tmp_path: Path) -> None:
    files = {"f16": GOOD, "worse": WORSE}
    for kind in ("q8_0", "q5_1", "q4_0"):
        files[kind] = tmp_path / f"{kind}.gguf"
        quantize(GOOD, files[kind], kind)
    published = evaluate(
        GOOD,
        files,
        TEXT,
        scratch=tmp_path,
        report=lambda _what, _done, _total: None,
        limit=TOKENS,
        rates=False,
    )
    for one in published:
        found = on_device(files[one.variant])
        assert found == pytest.approx(one.perplexity, rel=TOLERANCE_PERMILLE / 1000), one.variant


def test_how_it_is_served_changes_it_by_less_than_the_tolerance() -> None:
    plain = on_device(GOOD)
    served = on_device(GOOD, kv_type="q8_0", slots=3)
    assert served == pytest.approx(plain, rel=TOLERANCE_PERMILLE / 1000)


def test_a_context_that_is_too_short_is_said() -> None:
    model = LlamaModel()
    model.load(Load(str(GOOD), 256, 1, TEMPLATE))
    try:
        refused = model.score(TEXT, CHUNK, TOKENS)
    finally:
        model.close()
    assert isinstance(refused, Failed)
    assert refused.code == "context_length_exceeded"
    assert "256" in refused.message
