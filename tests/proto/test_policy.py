from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.fit_cases import UNTIMED, policies
from sprat_proto import canonical, policy
from sprat_proto.policy import DEFAULT, Aim, FitPolicy, Offer
from sprat_proto.states import ReasonCode

MIB = 1 << 20
OFFER = Offer(
    runtime="llama.cpp",
    licence="apache-2.0",
    memory_bytes=700 * MIB,
    made_for=40_960,
    context=2048,
    loss_ppm=21_000,
    decode_milli_tps=12_500,
    ttft_ms=900,
)


def offer(**changes: Any) -> Offer:
    return OFFER._replace(**changes)


def test_a_policy_that_asks_nothing_refuses_nothing() -> None:
    nothing = Offer("", "", 1 << 60, 0, 0, None, 0, None)
    assert policy.refusal(DEFAULT, nothing) is None
    for aim in Aim:
        assert policy.refusal(FitPolicy(aim=aim), nothing) is None


@pytest.mark.parametrize(
    ("asks", "given_offer", "code", "message"),
    [
        (
            {"runtimes": ("npu", "onnx")},
            {},
            "RUNTIME_NOT_ALLOWED",
            "needs the runtime llama.cpp, the policy allows npu, onnx",
        ),
        (
            {"licences": ("MIT",)},
            {},
            "LICENCE_NOT_ALLOWED",
            "has the licence apache-2.0, the policy allows MIT",
        ),
        (
            {"licences": ("MIT",)},
            {"licence": " "},
            "LICENCE_NOT_ALLOWED",
            "has the licence unknown, the policy allows MIT",
        ),
        (
            {"max_memory_bytes": 700 * MIB - 1},
            {},
            "OVER_MEMORY_LIMIT",
            "needs 700 MiB of memory, the policy allows 699 MiB",
        ),
        (
            {"min_context": 50_000},
            {},
            "CONTEXT_TOO_SHORT",
            "is made for 40960 tokens of context, the policy asks for 50000",
        ),
        (
            {"min_context": 1},
            {"made_for": 0},
            "CONTEXT_TOO_SHORT",
            "is made for an unknown number of tokens of context, the policy asks for 1",
        ),
        (
            {"min_context": 4096},
            {},
            "CONTEXT_TOO_SHORT",
            "would run with 2048 tokens of context, the policy asks for 4096",
        ),
        (
            {"max_loss_ppm": 20_999},
            {},
            "QUALITY_TOO_LOW",
            "loses 2.1 % of its quality, the policy allows 2.0999 %",
        ),
        (
            {"max_loss_ppm": 0},
            {"loss_ppm": None},
            "QUALITY_UNKNOWN",
            "was not evaluated, the policy allows a quality loss of 0 %",
        ),
        (
            {"min_decode_milli_tps": 12_501},
            {},
            "TOO_SLOW",
            "decodes 12.5 tokens a second, the policy asks for 12.501 tokens a second",
        ),
        (
            {"min_decode_milli_tps": 1},
            {"decode_milli_tps": 0, "ttft_ms": None},
            "RATE_UNKNOWN",
            "has no known rate on this device, the policy asks for 0.001 tokens a second",
        ),
        (
            {"max_ttft_ms": 899},
            {},
            "ANSWERS_TOO_LATE",
            "answers after 900 ms, the policy allows 899 ms for a prompt of 512 tokens",
        ),
        (
            {"max_ttft_ms": 899, "prompt_tokens": 16},
            {"ttft_ms": None},
            "RATE_UNKNOWN",
            "has no known rate on this device, the policy allows 899 ms for a prompt of 16 tokens",
        ),
    ],
)
def test_each_term_is_met_to_the_last_digit_and_refused_in_one_sentence(
    asks: dict[str, Any], given_offer: dict[str, Any], code: str, message: str
) -> None:
    assert policy.refusal(FitPolicy(**asks), offer(**given_offer)) == (ReasonCode(code), message)


@pytest.mark.parametrize(
    "asks",
    [
        {"runtimes": ("npu", "llama.cpp")},
        {"licences": ("Apache-2.0",)},
        {"max_memory_bytes": 700 * MIB},
        {"min_context": 2048},
        {"max_loss_ppm": 21_000},
        {"min_decode_milli_tps": 12_500},
        {"max_ttft_ms": 900},
    ],
)
def test_what_is_just_met_is_not_refused(asks: dict[str, Any]) -> None:
    assert policy.refusal(FitPolicy(**asks), OFFER) is None


@pytest.mark.parametrize("licence", ["apache-2.0", "Apache-2.0", " APACHE-2.0 "])
@pytest.mark.parametrize("allowed", ["apache-2.0", "Apache-2.0"])
def test_licences_are_the_same_in_any_case(licence: str, allowed: str) -> None:
    asks = FitPolicy(licences=("MIT", allowed))
    assert policy.refusal(asks, offer(licence=licence)) is None


def test_what_is_not_asked_is_not_written() -> None:
    assert canonical.encode(DEFAULT) == b"{}"
    assert DEFAULT.is_default
    assert not FitPolicy(max_loss_ppm=0).is_default


@UNTIMED
@given(policies())
def test_a_policy_is_read_as_it_was_signed(one: FitPolicy) -> None:
    assert canonical.decode(canonical.encode(one), FitPolicy, "policy") == one


@pytest.mark.parametrize(
    "said",
    [
        {"aim": "fastest"},
        {"min_decode_milli_tps": -1},
        {"max_memory_bytes": 1 << 54},
        {"prompt_tokens": 0},
        {"max_loss_ppm": 0.5},
        {"runtimes": [""]},
        {"licences": ["MIT"] * 33},
        {"max_cost": 1},
    ],
)
def test_what_is_no_policy_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(said, FitPolicy)


offers = st.builds(
    Offer,
    runtime=st.sampled_from(["llama.cpp", "npu"]),
    licence=st.sampled_from(["", "mit", "Apache-2.0"]),
    memory_bytes=st.integers(0, 1 << 36),
    made_for=st.sampled_from([0, 1024, 40_960]),
    context=st.sampled_from([64, 2048]),
    loss_ppm=st.none() | st.integers(0, 50_000),
    decode_milli_tps=st.integers(0, 20_000),
    ttft_ms=st.none() | st.integers(1, 100_000),
)
# One term made stricter: by name, what it becomes.
STRICTER: Mapping[str, Callable[[Any], Any]] = {
    "min_decode_milli_tps": lambda one: one + 1000,
    "max_ttft_ms": lambda one: max(1, one // 2) if one else 50_000,
    "max_memory_bytes": lambda one: max(1, one // 2) if one else 1 << 35,
    "min_context": lambda one: one + 512,
    "max_loss_ppm": lambda one: 20_000 if one is None else one // 2,
    "runtimes": lambda one: one[:1] or ("llama.cpp",),
    "licences": lambda one: one[:1] or ("MIT",),
}


@UNTIMED
@given(policies(), offers, st.sampled_from(sorted(STRICTER)))
def test_a_stricter_policy_never_accepts_more(
    one: FitPolicy, given_offer: Offer, what: str
) -> None:
    stricter = msgspec.structs.replace(one, **{what: STRICTER[what](getattr(one, what))})
    if policy.refusal(stricter, given_offer) is None:
        assert policy.refusal(one, given_offer) is None
