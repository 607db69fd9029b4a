from __future__ import annotations

import json
import math

import pytest
from sprat_controller.publisher.evaluate import table
from sprat_controller.publisher.evaluate.evaluate import Scores, to_signed

SCORES = Scores(
    variant="q4_0",
    bytes=378_601_920,
    tokens=2040,
    perplexity=21.3456,
    kl_divergence=0.05,
    same_top=0.875,
    prefill_tps=189.94,
    decode_tps=42.04,
    peak_bytes=512 << 20,
)


def test_a_row_says_each_column() -> None:
    row = dict(zip(table.COLUMNS, table.row(SCORES), strict=True))
    assert row == {
        "variant": "q4_0",
        "size": "361 MiB",
        "perplexity": "21.346",
        "KL (nats)": "0.050000",
        "same top": "87.5%",
        "quality loss": "5.1 %",
        "prefill t/s": "189.9",
        "decode t/s": "42.0",
    }


def test_what_was_not_measured_is_not_a_number() -> None:
    unmeasured = Scores("f16", 1, 1, 1.0, 0.0, 1.0, 0, 0)
    assert table.row(unmeasured)[-2:] == ["-", "-"]


def test_json_has_all_figures() -> None:
    (found,) = json.loads(json.dumps(table.to_json([SCORES])))
    assert found["kl_divergence"] == 0.05
    assert found["quality_loss"] == pytest.approx(math.e**0.05 - 1)
    assert found["peak_bytes"] == 512 << 20


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0.000 %"), (0.00001, "0.001 %"), (0.0012, "0.12 %"), (0.051, "5.1 %"), (1.234, "123 %")],
)
def test_a_loss_has_two_figures(share: float, said: str) -> None:
    assert table.percent(share) == said


@pytest.mark.parametrize(
    ("count", "said"), [(1 << 20, "1.00 MiB"), (1_234_567, "1.18 MiB"), (1_195_218_336, "1140 MiB")]
)
def test_a_size_has_three_figures(count: int, said: str) -> None:
    assert table.size(count) == said


def test_a_manifest_says_it_in_whole_numbers() -> None:
    signed = to_signed(SCORES, "ab" * 32)
    assert signed.reference == "f16"
    assert signed.text_sha256 == "ab" * 32
    assert signed.tokens == 2040
    assert signed.perplexity_milli == 21346
    assert signed.kl_nano == 50_000_000
    assert signed.same_top_ppm == 875_000
    assert signed.loss_ppm == 51271


def test_a_manifest_can_say_the_worst() -> None:
    worst = Scores("q4_0", 1, 1, math.exp(700), 1e6, 0.0, 0, 0)
    signed = to_signed(worst, "ab" * 32, reference="bf16")
    assert {signed.perplexity_milli, signed.kl_nano, signed.loss_ppm} == {1 << 40}
    assert signed.reference == "bf16"
