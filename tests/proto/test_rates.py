from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.boards import BOARDS
from simulators.fit_cases import KINDS, UNTIMED, any_measured
from simulators.shapes import FORMS, PHI4_MINI, QWEN3_06B, facts
from sprat_proto import rates
from sprat_proto.rates import Basis, Measured, Rates, TypeCost
from sprat_proto.tensor_types import weights_of

PI5 = BOARDS["Pi 5, 8 GB"].measured
assert PI5 is not None
FACTS = facts(QWEN3_06B, "q4_0")
# One layer less to think about: 1,000 bytes of F16 a token, nothing fixed.
SIMPLE = msgspec.structs.replace(FACTS, layers=0, bytes_per_token={"f16": 1000})
COST = TypeCost("f16", decode_fs=10**9, prefill_fs=10**8)


def measured(*costs: TypeCost, step_ns: int = 0, layer_ns: int = 0, kv_fs: int = 0) -> Measured:
    return Measured(1, "test", 1, 1, step_ns, layer_ns, kv_fs, costs)


def test_each_byte_and_each_weight_cost_what_was_measured() -> None:
    found = rates.predict(SIMPLE, measured(COST), 0)
    # 1,000 bytes at 1e-6 s; 500 weights at 1e-7 s.
    assert found == Rates(Basis.PREDICTED, 1_000_000, 20_000_000)


def test_a_step_and_its_layers_cost_beside_the_weights() -> None:
    layered = msgspec.structs.replace(SIMPLE, layers=4)
    found = rates.predict(layered, measured(COST, step_ns=500_000, layer_ns=125_000), 0)
    assert found.decode_milli_tps == 500_000
    assert found.prefill_milli_tps == 20_000_000


@pytest.mark.parametrize(
    ("read", "spared"),
    [
        ({"f16": 2000}, 100),
        ({"q4_0": 18_000, "q6_k": 2100}, 100),  # of the Q6_K, in which quantizers keep it
        ({"f16": 150}, 0),  # fewer weights than a head has: it is something else
    ],
)
def test_a_prompt_needs_the_output_head_only_once(read: dict[str, int], spared: int) -> None:
    costs = [TypeCost(kind, 1, 10**8) for kind in ("f16", "q4_0", "q6_k")]
    headed = msgspec.structs.replace(
        SIMPLE, vocabulary=10, embedding_length=10, bytes_per_token=read
    )
    found = rates.predict(headed, measured(*costs), 0)
    weights = sum(weights_of(kind, size) for kind, size in read.items()) - spared
    assert found.prefill_milli_tps == 10**18 // (weights * 10**8)


@pytest.mark.parametrize("others", [0, 1])
def test_the_head_is_spared_of_its_own_type_if_it_is_all_of_it(others: int) -> None:
    costs = [TypeCost("q4_0", 1, 10**8), TypeCost("q6_k", 1, 10**9)]
    headed = msgspec.structs.replace(
        SIMPLE,
        vocabulary=16,
        embedding_length=16,
        bytes_per_token={"q4_0": 18 * 512, "q6_k": 210 * (1 + others)},
    )
    found = rates.predict(headed, measured(*costs), 0)
    assert found.prefill_milli_tps == 10**18 // (512 * 32 * 10**8 + others * 256 * 10**9)


def test_the_time_to_the_first_token_is_rounded_up() -> None:
    assert Rates(Basis.PREDICTED, 10**9, 3 * 10**6).ttft_ms(10) == 4 + 1


def test_no_more_layers_look_through_a_window_than_there_are() -> None:
    one = msgspec.structs.replace(
        SIMPLE, layers=2, heads=1, kv_heads=1, key_length=8, value_length=8, window=4
    )
    all_, more = (msgspec.structs.replace(one, window_layers=count) for count in (2, 99))
    costs = measured(COST, kv_fs=10**6)
    assert rates.predict(all_, costs, 100) == rates.predict(more, costs, 100)


def test_a_type_that_ggml_does_not_have_has_no_rate_whatever_a_device_says() -> None:
    odd = msgspec.structs.replace(SIMPLE, bytes_per_token={"f16": 1000, "no-such": 1000})
    costs = measured(COST, TypeCost("no-such", 1, 1))
    assert rates.predict(odd, costs, 0).basis is Basis.UNKNOWN


def test_keys_and_values_cost_by_how_many_tokens_are_looked_at() -> None:
    one = msgspec.structs.replace(
        SIMPLE,
        layers=2,
        heads=0,
        kv_heads=1,
        key_length=50,
        value_length=50,
        window=10,
        window_layers=1,
    )
    assert rates.predict(one, measured(COST, kv_fs=10**9), 5).decode_milli_tps == 333_333
    # The layer with a window looks at ten of the twenty tokens.
    assert rates.predict(one, measured(COST, kv_fs=10**9), 20).decode_milli_tps == 142_857


def test_each_head_looks_for_itself() -> None:
    # 9 heads of 64 on 3 cost what 1,344 bytes do: 768 of keys and values, and 64 a head.
    one = msgspec.structs.replace(
        SIMPLE, layers=1, heads=9, kv_heads=3, key_length=64, value_length=64
    )
    found = rates.predict(one, measured(COST, kv_fs=10**9), 1)
    assert found.decode_milli_tps == 10**6 * 1000 // (1000 + 1344)


def test_each_token_of_a_prompt_looks_back_at_those_before_it() -> None:
    one = msgspec.structs.replace(
        SIMPLE,
        layers=3,
        heads=2,
        kv_heads=1,
        key_length=30,
        value_length=20,
        window=10,
        window_layers=1,
    )
    looking = dataclasses.replace(measured(COST), look_fs=10**7)
    # Beside 500 weights at 1e-7 s: 100 numbers at 1e-8 s of each that is looked at, 10 on average
    # in two layers, and of the 20 in the window 5 by the first ten tokens and 10 by the others.
    assert rates.predict(one, looking, 20).prefill_milli_tps == 10**18 // (
        50 * 10**9 + 27_500_000_000
    )
    assert rates.predict(one, looking, 0).prefill_milli_tps == 20_000_000


@given(any_measured(), st.integers(0, 1 << 20), st.integers(1, 1 << 20))
def test_a_longer_prompt_is_never_computed_faster(device: Measured, prompt: int, more: int) -> None:
    windowed = msgspec.structs.replace(FACTS, window=512, window_layers=FACTS.layers // 2)
    for one in (FACTS, windowed):
        short, long = (rates.predict(one, device, length) for length in (prompt, prompt + more))
        assert long.prefill_milli_tps <= short.prefill_milli_tps


def test_a_model_with_more_windowed_layers_than_layers_breaks_no_arithmetic() -> None:
    odd = msgspec.structs.replace(FACTS, window=512, window_layers=1 << 40)
    assert rates.predict(odd, PI5, 1 << 20).decode_milli_tps > 0


def test_a_device_that_measured_nothing_has_no_rate() -> None:
    assert rates.predict(FACTS, None, 0) == rates.UNKNOWN
    assert rates.predict(FACTS, measured(), 0) == rates.UNKNOWN
    assert rates.UNKNOWN.ttft_ms(1) is None


@pytest.mark.parametrize(
    "read",
    [
        {},
        {"f16": 0},
        {"iq1_s": 1000},  # measured by nobody, and a relative of none
        {"made-up": 1000},
        {"f16": 1000, "made-up": 1},
    ],
)
def test_what_has_no_known_cost_has_no_rate(read: dict[str, int]) -> None:
    facts = msgspec.structs.replace(FACTS, bytes_per_token=read)
    assert rates.predict(facts, measured(COST), 0) == rates.UNKNOWN


def test_a_type_that_the_model_file_could_not_have_has_no_rate() -> None:
    facts = msgspec.structs.replace(FACTS, bytes_per_token={"made-up": 1000})
    assert rates.predict(facts, measured(TypeCost("made-up", 1, 1)), 0) == rates.UNKNOWN


def test_what_costs_nothing_was_not_measured() -> None:
    for free in (TypeCost("f16", 0, 1), TypeCost("f16", 1, 0)):
        assert rates.predict(SIMPLE, measured(free), 0) == rates.UNKNOWN


@pytest.mark.parametrize("kind", sorted(rates.RELATIVES))
def test_a_type_that_was_not_measured_costs_what_its_nearest_relative_does(kind: str) -> None:
    facts = msgspec.structs.replace(FACTS, bytes_per_token={kind: 1 << 20})
    for relative in rates.RELATIVES[kind]:
        assert rates.predict(facts, measured(TypeCost(relative, 7, 7)), 0) != rates.UNKNOWN
    own = measured(TypeCost(rates.RELATIVES[kind][0], 1, 1), TypeCost(kind, 1000, 1000))
    alone = measured(TypeCost(kind, 1000, 1000))
    assert rates.predict(facts, own, 0) == rates.predict(facts, alone, 0)


def test_the_slowest_device_still_has_a_rate_and_the_fastest_one_that_json_holds() -> None:
    never = rates.predict(SIMPLE, measured(TypeCost("f16", 1 << 53, 1 << 53)), 0)
    assert (never.decode_milli_tps, never.basis) == (1, Basis.PREDICTED)
    instant = msgspec.structs.replace(SIMPLE, bytes_per_token={"f16": 2})
    found = rates.predict(instant, measured(TypeCost("f16", 1, 1)), 0)
    assert found.decode_milli_tps == found.prefill_milli_tps == rates.MOST_MILLI_TPS


def test_the_first_token_comes_after_the_prompt_and_one_step_rounded_up() -> None:
    found = Rates(Basis.PREDICTED, decode_milli_tps=3000, prefill_milli_tps=100_000)
    assert found.ttft_ms(1) == 10 + 334
    assert found.ttft_ms(512) == 5120 + 334
    assert dataclasses.replace(found, prefill_milli_tps=0).ttft_ms(1) is None


def test_what_was_observed_counts_and_what_was_not_is_predicted() -> None:
    predicted = rates.predict(FACTS, PI5, 512)
    seen = Rates(Basis.OBSERVED, 5000, 70_000)
    assert rates.expected(FACTS, PI5, 512, None) == predicted
    assert rates.expected(FACTS, PI5, 512, seen) == seen
    assert rates.expected(FACTS, None, 512, seen) == seen
    silent = Rates(Basis.OBSERVED, 0, 70_000)
    assert rates.expected(FACTS, PI5, 512, silent) == predicted
    decoded = Rates(Basis.OBSERVED, 5000, 0)
    completed = Rates(Basis.OBSERVED, 5000, predicted.prefill_milli_tps)
    assert rates.expected(FACTS, PI5, 512, decoded) == completed


sizes = st.dictionaries(st.sampled_from(KINDS), st.integers(0, 1 << 48), max_size=8)


@UNTIMED
@given(sizes, any_measured(), st.integers(0, 1 << 20))
def test_whatever_a_device_says_a_rate_is_unknown_or_a_number_that_travels(
    read: dict[str, int], said: Measured, depth: int
) -> None:
    found = rates.predict(msgspec.structs.replace(FACTS, bytes_per_token=read), said, depth)
    if found.basis is Basis.UNKNOWN:
        assert found == rates.UNKNOWN
        return
    assert 1 <= found.decode_milli_tps <= rates.MOST_MILLI_TPS
    assert 1 <= found.prefill_milli_tps <= rates.MOST_MILLI_TPS
    late = found.ttft_ms(1 << 20)
    assert late is not None
    assert late >= 1


@given(st.sampled_from(sorted(FORMS)), st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_a_fuller_context_is_never_faster(form: str, one: int, other: int) -> None:
    near, far = sorted((one, other))
    read = facts(PHI4_MINI, form)
    assert (
        rates.predict(read, PI5, near).decode_milli_tps
        >= rates.predict(read, PI5, far).decode_milli_tps
    )


@given(st.integers(1, 1 << 53), st.integers(1, 1 << 53), st.integers(1, 1 << 20))
def test_a_longer_prompt_is_never_answered_earlier(decode: int, prefill: int, prompt: int) -> None:
    found = Rates(Basis.OBSERVED, decode, prefill)
    shorter, longer = found.ttft_ms(prompt), found.ttft_ms(prompt + 1)
    assert shorter is not None
    assert longer is not None
    assert shorter <= longer
