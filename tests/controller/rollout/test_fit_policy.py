from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from simulators.fit_cases import UNTIMED, policies
from sprat_controller.errors import RequestError
from sprat_controller.rollout import fit_policy
from sprat_proto.policy import Aim, FitPolicy


def test_people_say_tokens_a_second_and_percent() -> None:
    asked = fit_policy.asked(
        aim=Aim.SPEED_FIRST, min_decode_tps=7.5, max_quality_loss=0.35, licences=["MIT"]
    )
    assert asked == FitPolicy(
        aim=Aim.SPEED_FIRST, min_decode_milli_tps=7500, max_loss_ppm=3500, licences=("MIT",)
    )
    assert fit_policy.asked() == FitPolicy()


def test_a_rate_that_rounds_to_nothing_is_asked_all_the_same() -> None:
    assert fit_policy.asked(min_decode_tps=0.0004).min_decode_milli_tps == 1
    assert fit_policy.asked(min_decode_tps=0).min_decode_milli_tps == 0
    assert fit_policy.asked(min_decode_tps=-0.001).min_decode_milli_tps == -1  # `check` refuses it


@UNTIMED
@given(policies())
def test_what_is_said_of_a_policy_asks_for_it(one: FitPolicy) -> None:
    said: dict[str, Any] = json.loads(json.dumps(fit_policy.said(one)))
    said["aim"] = Aim(said["aim"])
    assert fit_policy.asked(**said) == one


@UNTIMED
@given(policies())
def test_a_policy_is_stored_and_read_as_it_was(one: FitPolicy) -> None:
    fit_policy.check(one, 1 << 20)
    assert fit_policy.from_json(json.loads(json.dumps(fit_policy.to_json(one)))) == one


def test_no_policy_is_stored_as_nothing() -> None:
    assert fit_policy.to_json(None) is None
    assert fit_policy.from_json(None) is None
    assert fit_policy.from_json({}) == FitPolicy()


@pytest.mark.parametrize(
    ("asks", "sentence"),
    [
        (
            {"min_decode_milli_tps": -500},
            ("policy.min_decode_tps: expected 0 or more, and no astronomic number, found -0.5"),
        ),
        (
            {"max_ttft_ms": 1 << 60},
            (
                "policy.max_ttft_ms: expected 0 or more, and no astronomic number,"
                " found 1152921504606846976"
            ),
        ),
        (
            {"max_loss_ppm": -1},
            (
                "policy.max_quality_loss: expected 0 or more, and no astronomic number,"
                " found -0.0001"
            ),
        ),
        ({"prompt_tokens": 0}, "policy.prompt_tokens: expected 1 to 1048576 tokens, found 0"),
        (
            {"min_context": 2049},
            (
                "policy.min_context: expected at most the 2048 tokens of context that this is"
                " planned with, found 2049"
            ),
        ),
        (
            {"runtimes": ("a b",)},
            "policy.runtimes: expected names such as llama.cpp, found 'a b'",
        ),
        (
            {"licences": ("x" * 65,)},
            f"policy.licences: expected words of 1 to 64 characters, found '{'x' * 65}'",
        ),
        (
            {"licences": ("MIT",) * 33},
            "policy.licences: expected at most 32 of them, found 33",
        ),
    ],
)
def test_an_impossible_policy_is_refused_with_one_sentence(
    asks: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RequestError) as caught:
        fit_policy.check(FitPolicy(**asks), 2048)
    assert caught.value.message == sentence
    assert caught.value.code == "invalid_rollout"
