"""What a probe file becomes in a manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs
from sprat_controller.publisher import strict_yaml
from sprat_controller.publisher.probe_file import (
    Bounds,
    Golden,
    ProbeFile,
    Soak,
    Text,
    activation_of,
    bound_of,
    with_text,
)
from sprat_proto import probes
from sprat_proto.manifest import GoldenPrompt
from sprat_proto.probes import ScoredText

ROOT = Path(__file__).parents[3]
WHOLE = b"""
schema: 1
golden:
  - {prompt: "Who?", expect: "A fish.", match: equals, weight: 3, max_tokens: 8}
min_score_percent: 60
timeout_s: 90
text: {file: probe.txt, tokens: 255, margin_percent: 10}
bounds: {min_decode_tps: 7.5, min_decode_percent: 80, max_ttft_ms: 900, max_memory_percent: 110}
soak:
  seconds: 60
  traffic_percent: 5
  min_requests: 7
  max_error_percent: 2
  min_decode_percent: 70
"""


def read(text: bytes) -> ProbeFile:
    return strict_yaml.decode(text, ProbeFile, "probes p.yaml")


def test_every_key_reaches_the_manifest() -> None:
    found = activation_of(read(WHOLE), (GoldenPrompt("More?", "No."),), 5)
    assert found.probe == [
        GoldenPrompt("Who?", "A fish.", "equals", 8, 3),
        GoldenPrompt("More?", "No."),
    ]
    assert (found.probe_timeout_s, found.soak_s, found.soak_traffic_percent) == (90, 60, 5)
    assert found.terms == probes.Proof(
        min_score_permille=600,
        bounds=probes.Bounds(7_500, 800, 900, 1100),
        soak=probes.SoakBounds(7, 20, 700),
    )


def test_the_example_is_a_probe_file_and_says_every_key() -> None:
    data = (ROOT / "deploy" / "examples" / "probes.yaml").read_bytes()
    assert activation_of(read(data), (), 0).soak_s == 3600
    for part in (ProbeFile, Golden, Text, Bounds, Soak):
        for field in structs.fields(part):
            assert f"{field.encode_name}:" in data.decode(), f"{field.encode_name} is missing"


def test_a_file_that_asks_for_nothing_more_is_spelled_as_before_there_were_proofs() -> None:
    found = activation_of(read(b"schema: 1\n"), (), 5)
    assert (found.proof, found.soak_s) == (UNSET, 5)


def test_a_text_is_put_to_what_else_is_asked() -> None:
    text = ScoredText("text", 5000)
    found = with_text(activation_of(read(b"min_score_percent: 50\n"), (), 0), text)
    assert (found.terms.text, found.terms.min_score_permille) == (text, 500)


@given(st.floats(1, 1e6), st.integers(1, 1000))
def test_a_bound_leaves_the_margin(perplexity: float, margin: int) -> None:
    bound = bound_of(perplexity, margin)
    assert bound == pytest.approx(perplexity * 1000 * (1 + margin / 100), abs=1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"min_scor_percent: 3\n", "min_score_percent"),
        (b"min_score_percent: 101\n", "100"),
        (b"golden: [{prompt: a, expect: b, match: regex}]\n", "match"),
        (b"text: {tokens: 5}\n", "file"),
    ],
)
def test_what_no_probe_says_is_refused(text: bytes, complaint: str) -> None:
    with pytest.raises(strict_yaml.StrictYamlError, match=complaint):
        read(text)
