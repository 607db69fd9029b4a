"""What manifests say of quality agrees with itself, or the first thing that does not is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.publisher.evaluate.evaluate import Scores, to_signed
from sprat_controller.registry.evaluations import faults
from sprat_proto.manifest import Activation, Evaluation, Facts, Manifest, Source

TEXT = "7" * 64
FACTS = Facts(
    architecture="llama",
    quantization="q4_0",
    parameters=1,
    weights_bytes=1,
    layers=1,
    embedding_length=1,
    heads=1,
    kv_heads=1,
    key_length=1,
    value_length=1,
    vocabulary=1,
    context_length=1,
)


def measured(kl: float, *, variant: str = "q4_0", same_top: float = 0.9) -> Evaluation:
    scores = Scores(variant, 1, 255, 12.5, kl, same_top, 0, 0)
    return to_signed(scores, TEXT)


def stated(variant: str, evaluation: Evaluation | None) -> Manifest:
    return Manifest(
        schema=3,
        publisher="me",
        model="talk",
        release="1.0.0",
        release_counter=1,
        variant=variant,
        hardware_ids=["cpu-x86_64"],
        runtime="llama.cpp",
        min_runtime="0",
        created="",
        source=Source("0" * 64, 1),
        slots=[],
        shards=[],
        deltas=[],
        adapters=[],
        encodings=["raw"],
        facts=FACTS,
        chat_template="",
        activation=Activation(),
        disk_needed=1,
        evaluation=evaluation,
    )


def told(**variants: Evaluation | None) -> str:
    """Return the first fault, or nothing."""
    manifests = [stated(name, evaluation) for name, evaluation in variants.items()]
    return next(faults(manifests), "")


def test_what_was_measured_together_passes() -> None:
    assert told(f16=measured(0, same_top=1), q8_0=measured(0.0001), q4_0=measured(0.04)) == ""


def test_nobody_has_to_measure() -> None:
    assert told(f16=None, q8_0=measured(0.0001), q4_0=None) == ""


@given(st.floats(0, 1e6, allow_nan=False))
def test_whatever_the_evaluation_signs_agrees_with_itself(kl: float) -> None:
    assert told(q4_0=measured(kl)) == ""


@given(st.floats(0, 10, allow_nan=False), st.sampled_from([-1, 1]), st.floats(1e-3, 1e3))
def test_a_loss_that_is_not_that_of_the_divergence_is_told(
    kl: float, sign: int, share: float
) -> None:
    honest = measured(kl)
    wrong = max(0, honest.loss_ppm + sign * (3 + round(honest.loss_ppm * share)))
    if abs(wrong - honest.loss_ppm) <= 2:
        return
    assert "which is e^KL - 1" in told(q4_0=msgspec.structs.replace(honest, loss_ppm=wrong))


@pytest.mark.parametrize(
    "change", [{"reference": "bf16"}, {"text_sha256": "8" * 64}, {"tokens": 510}]
)
def test_variants_measured_in_different_ways_are_not_comparable(change: dict[str, Any]) -> None:
    other = msgspec.structs.replace(measured(0.1), **change)
    fault = told(q8_0=measured(0.01), q5_1=None, q4_0=other)
    (name,) = change
    assert fault.startswith(f"expected talk@1.0.0+q4_0 to be evaluated with the {name} of q8_0")


@pytest.mark.parametrize("wrong", [measured(0.01, same_top=1), measured(0, same_top=0.99)])
def test_a_reference_equals_itself(wrong: Evaluation) -> None:
    assert "expected talk@1.0.0+f16 to be equal to itself" in told(f16=wrong)


def test_an_evaluation_has_scored_something() -> None:
    nothing = msgspec.structs.replace(measured(0.1), tokens=0)
    assert "found none" in told(q4_0=nothing)
