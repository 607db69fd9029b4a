from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators import fit_cases
from simulators.boards import BOARDS
from simulators.fit_cases import UNTIMED
from simulators.shapes import QWEN3_06B, variants
from sprat_proto import fit, quality
from sprat_proto.fit import Candidate, Profile, Terms
from sprat_proto.manifest import Evaluation, Facts
from sprat_proto.policy import Aim, FitPolicy
from sprat_proto.rates import Basis, Rates
from sprat_proto.states import ReasonCode
from sprat_proto.trust import HARDWARE_IDS

MIB = 1 << 20
FACTS = Facts(
    architecture="llama",
    quantization="q4_0",
    parameters=600_000_000,
    weights_bytes=340 * MIB,
    layers=28,
    embedding_length=1024,
    heads=16,
    kv_heads=8,
    key_length=128,
    value_length=128,
    vocabulary=151_936,
    context_length=40_960,
)
PROFILE = fit.Profile(
    arch="aarch64",
    cores=4,
    cpu_features=("neon",),
    memory_bytes=4096 * MIB,
    memory_budget_bytes=2048 * MIB,
    disk_free_bytes=8192 * MIB,
    accelerators=(),
    os="Linux",
    simulated=False,
    runtimes=("llama.cpp",),
)


def candidate(
    variant: str,
    weights_mib: int,
    runtime: str = "llama.cpp",
    hardware_ids: tuple[str, ...] = HARDWARE_IDS,
) -> fit.Candidate:
    facts = msgspec.structs.replace(FACTS, quantization=variant, weights_bytes=weights_mib * MIB)
    digest = variant.ljust(64, "0")
    return fit.Candidate(variant, digest, runtime, hardware_ids, weights_mib * MIB, facts)


TERMS = fit.Terms(2048)
Q8, Q5, Q4 = candidate("q8_0", 610), candidate("q5_1", 430), candidate("q4_0", 340)


def bits(one: fit.Candidate) -> int:
    return quality.bits_per_weight_milli(one.facts)


def with_budget(budget: int) -> fit.Profile:
    return dataclasses.replace(PROFILE, memory_budget_bytes=budget)


def test_a_roomy_device_gets_the_best_quality_and_hears_why_not_the_others() -> None:
    choice = fit.choose([Q4, Q8, Q5], PROFILE, TERMS)
    assert choice.chosen is Q8
    assert [one.variant for one in choice.verdicts] == ["q8_0", "q5_1", "q4_0"]
    assert [one.code for one in choice.verdicts] == [None, *[ReasonCode.LOWER_QUALITY] * 2]
    assert "q8_0 keeps more of the model" in choice.verdicts[1].message


def test_what_is_released_for_other_hardware_is_never_chosen() -> None:
    other = candidate("q8_0", 610, hardware_ids=("cpu-x86_64",))
    choice = fit.choose([Q4, other], PROFILE, TERMS)
    assert choice.chosen is Q4
    assert choice.verdicts[0].code is ReasonCode.WRONG_HARDWARE
    assert choice.verdicts[0].message == "is released for cpu-x86_64, the device is cpu-aarch64"
    assert not choice.verdicts[0].fits
    elsewhere = dataclasses.replace(PROFILE, arch="x86_64")
    assert fit.choose([Q4, other], elsewhere, TERMS).chosen is other
    assert fit.choose([other], PROFILE, TERMS).chosen is None


def test_memory_is_weights_and_context_and_what_the_engine_takes() -> None:
    needed = fit.need(Q4, 2048)
    assert needed.weights == 340 * MIB
    assert needed.kv == 2048 * 28 * 8 * (128 + 128) * 2
    assert needed.memory == needed.weights + needed.kv + needed.compute + needed.worker
    assert needed.disk == 340 * MIB + fit.DISK_RESERVE_BYTES


def test_the_worker_takes_more_for_a_larger_vocabulary() -> None:
    facts = msgspec.structs.replace(FACTS, vocabulary=FACTS.vocabulary + 1000)
    larger = fit.need(dataclasses.replace(Q4, facts=facts), 2048)
    assert larger.worker - fit.need(Q4, 2048).worker == 1000 * fit.VOCABULARY_BYTES


def test_each_slot_has_a_context_and_a_row_of_logits_of_its_own() -> None:
    one, four = fit.need(Q4, 2048), fit.need(Q4, 2048, slots=4)
    assert four.kv == 4 * one.kv
    assert four.compute - one.compute == 3 * FACTS.vocabulary * fit.LOGIT_BYTES
    assert dataclasses.replace(four, kv=one.kv, compute=one.compute) == one


def test_the_mask_of_attention_grows_with_the_context() -> None:
    short, long = fit.need(Q4, 512), fit.need(Q4, 2048)
    assert long.compute - short.compute == fit.MICRO_BATCH * 1536 * fit.MASK_BYTES


def test_wide_inner_layers_take_more_and_usual_ones_what_a_block_takes_anyway() -> None:
    def compute(inner: int) -> int:
        facts = msgspec.structs.replace(FACTS, inner_length=inner)
        return fit.need(dataclasses.replace(Q4, facts=facts), 2048).compute

    assert compute(0) == compute(2 * FACTS.embedding_length) == fit.need(Q4, 2048).compute
    more = compute(7 * FACTS.embedding_length) - compute(6 * FACTS.embedding_length)
    assert more == 3 * FACTS.embedding_length * 512 * 4


def test_keys_and_values_of_eight_bits_take_a_scale_for_each_block() -> None:
    elements = fit.need(Q4, 2048).kv // 2
    assert fit.need(Q4, 2048, kv_type="q8_0").kv == elements * 34 // 32


def test_no_more_context_is_counted_than_the_model_has() -> None:
    assert fit.need(Q4, 1 << 20).kv == fit.need(Q4, FACTS.context_length).kv

    assert fit.need(Q4, 1 << 20) == fit.need(Q4, FACTS.context_length)


def with_facts(one: fit.Candidate, **values: Any) -> fit.Candidate:
    return dataclasses.replace(one, facts=msgspec.structs.replace(one.facts, **values))


def test_a_model_that_does_not_say_for_how_much_context_it_is_made_gets_what_is_asked() -> None:
    silent = with_facts(Q4, context_length=0)
    assert fit.need(silent, 4096).kv == fit.need(Q4, 4096).kv > 0


def test_keys_and_values_are_counted_by_their_own_lengths_in_whole_blocks() -> None:
    odd = with_facts(Q4, layers=1, kv_heads=1, key_length=3, value_length=2)
    assert fit.need(odd, 7).kv == 7 * (3 + 2) * 2
    assert fit.need(odd, 7, kv_type="q8_0").kv == 2 * 34


def test_adapters_are_in_memory_as_well() -> None:
    adapted = dataclasses.replace(Q4, adapters_bytes=5 * MIB)
    assert fit.need(adapted, 2048).memory - fit.need(Q4, 2048).memory == 5 * MIB


def test_the_context_that_a_model_is_made_for_is_the_models() -> None:
    asked = Terms(50_000, policy=FitPolicy(min_context=50_000))
    verdict = fit.judge(Q4, with_budget(1 << 40), asked)
    assert verdict.code is ReasonCode.CONTEXT_TOO_SHORT
    assert "is made for 40960 tokens" in verdict.message


def test_the_budget_is_met_to_the_byte() -> None:
    exact = fit.need(Q5, 2048).memory
    assert fit.choose([Q8, Q5, Q4], with_budget(exact), TERMS).chosen is Q5
    below = fit.choose([Q8, Q5, Q4], with_budget(exact - 1), TERMS)
    assert below.chosen is Q4
    assert below.verdicts[1].code is ReasonCode.INSUFFICIENT_MEMORY
    assert "MiB" in below.verdicts[1].message


def test_the_disk_is_met_to_the_byte() -> None:
    exact = fit.need(Q4, 2048).disk
    profile = dataclasses.replace(PROFILE, disk_free_bytes=exact)
    assert fit.choose([Q8, Q4], profile, TERMS).chosen is Q4
    full = fit.choose([Q8, Q4], dataclasses.replace(PROFILE, disk_free_bytes=exact - 1), TERMS)
    assert full.chosen is None
    assert {one.code for one in full.verdicts} == {ReasonCode.INSUFFICIENT_DISK}


def test_a_variant_for_another_runtime_is_refused_by_name() -> None:
    other = candidate("onnx-int4", 900, runtime="onnxruntime")
    choice = fit.choose([other, Q4], PROFILE, TERMS)
    assert choice.chosen is Q4
    assert choice.verdicts[0].code is ReasonCode.RUNTIME_MISSING
    assert "onnxruntime" in choice.verdicts[0].message
    assert "llama.cpp" in choice.verdicts[0].message
    bare = dataclasses.replace(PROFILE, runtimes=())
    assert "none" in fit.judge(Q4, bare, TERMS).message


def test_two_of_equal_size_go_by_name_in_whatever_order_they_come() -> None:
    a, b = candidate("a", 400), candidate("b", 400)
    for order in ([a, b], [b, a]):
        assert fit.choose(order, PROFILE, TERMS).chosen is a


def test_nothing_to_choose_from_is_no_choice() -> None:
    assert fit.choose([], PROFILE, TERMS) == fit.Choice(None, ())


sizes = st.integers(0, 1 << 36)
PI5 = BOARDS["Pi 5, 8 GB"]
RELEASE = variants(QWEN3_06B)
F16 = RELEASE[0]
QUALITY, SPEED, SMALL = (FitPolicy(aim=aim) for aim in Aim)


def with_policy(**asks: Any) -> Terms:
    return Terms(2048, policy=FitPolicy(**asks))


def names(choice: fit.Choice) -> list[str]:
    return [one.variant for one in choice.verdicts]


def evaluated(one: Candidate, loss_ppm: int, reference: str = "f16") -> Candidate:
    said = Evaluation(reference, "7" * 64, 1000, 12_000, 1, 1, loss_ppm)
    return dataclasses.replace(one, evaluation=said)


def test_measured_loss_counts_more_than_bits_per_weight() -> None:
    cleverer = evaluated(Q4, 100)
    choice = fit.choose([evaluated(Q8, 200), cleverer], PROFILE, TERMS)
    assert choice.chosen is cleverer
    other = choice.verdicts[1]
    assert other.code is ReasonCode.LOWER_QUALITY
    assert other.message == "fits, but q4_0 loses less of its quality (0.01 % against 0.02 %)"
    assert (other.loss_ppm, choice.verdicts[0].loss_ppm) == (200, 100)


@pytest.mark.parametrize(
    "other",
    [
        Q4,  # nobody evaluated it
        evaluated(Q4, 100, reference="q8_0"),  # against another yardstick
        dataclasses.replace(Q4, evaluation=Evaluation("f16", "8" * 64, 1, 1, 1, 1, 100)),
    ],
)
def test_losses_that_cannot_be_compared_give_way_to_bits_per_weight(other: Candidate) -> None:
    choice = fit.choose([other, evaluated(Q8, 200)], PROFILE, TERMS)
    assert names(choice) == ["q8_0", "q4_0"]
    assert "bits per weight" in choice.verdicts[1].message


def test_a_variant_that_the_hardware_cannot_run_does_not_count_in_comparing() -> None:
    elsewhere = candidate("a-npu", 900, runtime="npu")
    choice = fit.choose([evaluated(Q8, 200), evaluated(Q4, 100), elsewhere], PROFILE, TERMS)
    assert names(choice) == ["q4_0", "q8_0", "a-npu"]


def test_the_unquantized_reference_lost_nothing_though_nobody_evaluated_it() -> None:
    alone = dataclasses.replace(F16, evaluation=None)
    choice = fit.choose([*RELEASE[1:], alone], PI5, TERMS)
    assert choice.chosen is alone
    assert choice.verdicts[0].loss_ppm == 0
    assert "loses less" in choice.verdicts[1].message
    assert fit.judge(alone, PI5, with_policy(max_loss_ppm=0)).fits


def test_an_unquantized_variant_beside_another_yardstick_is_compared_by_bits() -> None:
    alone = dataclasses.replace(F16, evaluation=None)
    others = [evaluated(one, 100, reference="bf16") for one in RELEASE[1:]]
    choice = fit.choose([*others, alone], PI5, TERMS)
    assert choice.chosen is alone
    assert "bits per weight" in choice.verdicts[1].message


def test_of_what_lost_as_much_the_smaller_is_chosen() -> None:
    choice = fit.choose([evaluated(Q8, 100), evaluated(Q4, 100)], PROFILE, TERMS)
    assert names(choice) == ["q4_0", "q8_0"]
    assert choice.verdicts[1].code is ReasonCode.LARGER
    assert "q4_0 takes less memory" in choice.verdicts[1].message


def test_the_fastest_is_chosen_where_that_is_asked() -> None:
    choice = fit.choose(RELEASE, PI5, Terms(2048, policy=SPEED))
    rates = [one.rates.decode_milli_tps for one in choice.verdicts]
    assert rates == sorted(rates, reverse=True)
    assert {one.code for one in choice.verdicts[1:]} == {ReasonCode.SLOWER}
    assert "q4_0 is faster (" in choice.verdicts[1].message
    assert choice.verdicts[0].rates.basis is Basis.PREDICTED


def test_without_rates_the_fastest_is_what_reads_least() -> None:
    unmeasured = dataclasses.replace(PI5, measured=None)
    choice = fit.choose(RELEASE, unmeasured, Terms(2048, policy=SPEED))
    assert names(choice) == ["q4_0", "q4_k_m", "q5_1", "q8_0", "f16"]
    assert "q4_0 reads less for each token (" in choice.verdicts[1].message


def test_what_does_not_say_what_it_reads_reads_all_of_its_weights() -> None:
    assert not FACTS.bytes_per_token
    choice = fit.choose([Q8, Q5, Q4], PROFILE, Terms(2048, policy=SPEED))
    assert names(choice) == ["q4_0", "q5_1", "q8_0"]


def test_rates_are_compared_though_what_the_hardware_cannot_run_has_none() -> None:
    unknown = with_facts(candidate("a-npu", 900, runtime="npu"), bytes_per_token={"no-such": 1})
    choice = fit.choose([*RELEASE, unknown], PI5, Terms(2048, policy=SPEED))
    assert "q4_0 is faster (" in choice.verdicts[1].message


def test_of_what_is_as_fast_the_better_is_chosen() -> None:
    same = Rates(Basis.OBSERVED, 10_000, 10_000)
    seen = {one.digest: same for one in (Q8, Q4)}
    assert fit.choose([Q4, Q8], PROFILE, Terms(2048, policy=SPEED), seen).chosen is Q8


def test_of_what_is_as_small_the_better_is_chosen() -> None:
    worse, better = evaluated(candidate("a", 400), 200), evaluated(candidate("b", 400), 100)
    assert fit.choose([worse, better], PROFILE, Terms(2048, policy=SMALL)).chosen is better


def test_what_could_run_and_has_no_room_counts_in_comparing() -> None:
    # More room must not change what is compared: losses are not known of all that could run.
    choice = fit.choose(
        [Q8, evaluated(Q5, 200), evaluated(Q4, 100)],
        with_budget(fit.need(Q8, 2048).memory - 1),
        TERMS,
    )
    assert choice.chosen is not None
    assert choice.chosen.variant == "q5_1"


def test_two_of_one_name_go_by_digest_in_whatever_order_they_come() -> None:
    a, b = (dataclasses.replace(Q4, digest=digit * 64) for digit in "12")
    for order in ([a, b], [b, a]):
        assert fit.choose(order, PROFILE, TERMS).chosen is a


def test_the_smallest_is_chosen_where_that_is_asked() -> None:
    choice = fit.choose(RELEASE, PI5, Terms(2048, policy=SMALL))
    sizes = [one.need.memory for one in choice.verdicts]
    assert sizes == sorted(sizes)
    assert {one.code for one in choice.verdicts[1:]} == {ReasonCode.LARGER}
    assert all(one.fits for one in choice.verdicts)


def test_what_devices_observed_outweighs_what_is_predicted() -> None:
    seen = {F16.digest: Rates(Basis.OBSERVED, 99_000, 500_000)}
    choice = fit.choose(RELEASE, PI5, Terms(2048, policy=SPEED), seen)
    assert choice.chosen is F16
    assert choice.verdicts[0].rates == seen[F16.digest]
    assert choice.verdicts[0].ttft_ms == 1024 + 11


def test_rates_are_those_at_the_end_of_the_longest_prompt_that_the_context_holds() -> None:
    short, long = (fit.judge(F16, PI5, Terms(context, policy=QUALITY)) for context in (64, 1 << 20))
    assert short.ttft_ms is not None
    assert long.ttft_ms is not None
    assert short.ttft_ms < long.ttft_ms
    assert short.rates.decode_milli_tps > long.rates.decode_milli_tps
    deep = Terms(1 << 20, policy=FitPolicy(prompt_tokens=1 << 20))
    assert fit.judge(F16, PI5, deep).rates.decode_milli_tps < long.rates.decode_milli_tps


def test_hardware_is_judged_before_policy() -> None:
    strict = with_policy(runtimes=("npu",), max_memory_bytes=1)
    tight = dataclasses.replace(PI5, memory_budget_bytes=1)
    assert fit.judge(F16, tight, strict).code is ReasonCode.INSUFFICIENT_MEMORY
    assert fit.judge(F16, PI5, strict).code is ReasonCode.RUNTIME_NOT_ALLOWED


def test_a_rollout_may_ask_otherwise_than_its_release() -> None:
    own = [dataclasses.replace(one, policy=SMALL) for one in RELEASE]
    assert fit.choose(own, PI5, TERMS).chosen is own[-1]
    assert fit.choose(own, PI5, Terms(2048, policy=FitPolicy())).chosen is own[0]
    strict = dataclasses.replace(F16, policy=FitPolicy(licences=("MIT",)))
    assert fit.judge(strict, PI5, TERMS).code is ReasonCode.LICENCE_NOT_ALLOWED
    assert fit.judge(strict, PI5, Terms(2048, policy=FitPolicy())).fits


def test_a_release_whose_variants_disagree_is_chosen_from_by_quality() -> None:
    mixed = [dataclasses.replace(RELEASE[4], policy=SMALL), *RELEASE[:4]]
    assert fit.choose(mixed, PI5, TERMS).chosen is F16


def test_the_closest_numbers_are_told_apart() -> None:
    needed = fit.need(F16, 2048).memory
    near = dataclasses.replace(PI5, memory_budget_bytes=needed - 1)
    message = fit.judge(F16, near, TERMS).message
    assert message.startswith(f"needs {needed // MIB + 1} MiB of memory (")
    assert message.endswith(f", the budget is {needed // MIB} MiB")


@UNTIMED
@given(fit_cases.candidates(), fit_cases.profiles(), fit_cases.terms(), st.data())
def test_what_is_chosen_fits_and_nothing_better_that_fits_is_left_aside(
    some: list[Candidate], profile: Profile, terms: Terms, data: st.DataObject
) -> None:
    observed = data.draw(fit_cases.observations(some))
    choice = fit.choose(some, profile, terms, observed)
    fitting = {one.variant for one in some if fit.judge(one, profile, terms, observed).fits}
    first = next((one.variant for one in choice.verdicts if one.variant in fitting), None)
    assert (choice.chosen.variant if choice.chosen else None) == first
    if choice.chosen is not None:
        needed = fit.need(choice.chosen, terms.context, terms.slots, terms.kv_type)
        assert needed.memory <= profile.memory_budget_bytes
        assert needed.disk <= profile.disk_free_bytes
        assert choice.chosen.runtime in profile.runtimes


@UNTIMED
@given(fit_cases.candidates(), fit_cases.profiles(), fit_cases.terms(), st.data())
def test_every_variant_has_one_verdict_with_its_reason(
    some: list[Candidate], profile: Profile, terms: Terms, data: st.DataObject
) -> None:
    choice = fit.choose(some, profile, terms, data.draw(fit_cases.observations(some)))
    assert sorted(names(choice)) == sorted(one.variant for one in some)
    for verdict in choice.verdicts:
        is_chosen = choice.chosen is not None and verdict.variant == choice.chosen.variant
        assert (verdict.code is None) == is_chosen
        assert verdict.message
        assert "\n" not in verdict.message
        if not is_chosen:
            assert verdict.message != "fits"
        if choice.chosen is not None and verdict.fits and not is_chosen:
            assert choice.chosen.variant in verdict.message


@UNTIMED
@given(
    fit_cases.candidates(),
    fit_cases.profiles(),
    fit_cases.terms(),
    st.tuples(sizes, sizes),
    st.data(),
)
def test_more_memory_or_disk_never_picks_a_worse_variant(
    some: list[Candidate],
    profile: Profile,
    terms: Terms,
    more: tuple[int, int],
    data: st.DataObject,
) -> None:
    observed = data.draw(fit_cases.observations(some))
    larger = dataclasses.replace(
        profile,
        memory_budget_bytes=profile.memory_budget_bytes + more[0],
        disk_free_bytes=profile.disk_free_bytes + more[1],
    )
    before = fit.choose(some, profile, terms, observed)
    after = fit.choose(some, larger, terms, observed)
    assert names(before) == names(after)
    if before.chosen is not None:
        assert after.chosen is not None
        order = names(after)
        assert order.index(after.chosen.variant) <= order.index(before.chosen.variant)


@UNTIMED
@given(
    fit_cases.candidates(),
    fit_cases.profiles(),
    fit_cases.terms(),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_variants_does_not_matter(
    some: list[Candidate], profile: Profile, terms: Terms, random: Random
) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    assert fit.choose(shuffled, profile, terms) == fit.choose(some, profile, terms)


@UNTIMED
@given(fit_cases.a_candidate("one"), fit_cases.profiles(), fit_cases.terms(), st.data())
def test_no_policy_accepts_what_the_hardware_does_not(
    one: Candidate, profile: Profile, terms: Terms, data: st.DataObject
) -> None:
    asked = data.draw(fit_cases.policies())
    free = fit.judge(one, profile, dataclasses.replace(terms, policy=FitPolicy()))
    if fit.judge(one, profile, dataclasses.replace(terms, policy=asked)).fits:
        assert free.fits


@UNTIMED
@given(
    fit_cases.a_candidate("one"),
    st.tuples(st.integers(64, 1 << 20), st.integers(64, 1 << 20)).map(sorted),
    st.tuples(st.integers(1, fit.MAX_SLOTS), st.integers(1, fit.MAX_SLOTS)).map(sorted),
    st.sampled_from(sorted(fit.KV_BLOCKS)),
)
def test_more_context_and_more_slots_never_need_less_memory(
    one: Candidate, contexts: list[int], slots: list[int], kv_type: str
) -> None:
    low = fit.need(one, contexts[0], slots[0], kv_type)
    high = fit.need(one, contexts[1], slots[1], kv_type)
    assert low.memory <= high.memory
    assert low.disk == high.disk


@pytest.mark.parametrize("parameters", [0, 1])
def test_a_model_without_parameters_breaks_no_arithmetic(parameters: int) -> None:
    facts = msgspec.structs.replace(FACTS, parameters=parameters, weights_bytes=0)
    empty = fit.Candidate("empty", "e" * 64, "llama.cpp", HARDWARE_IDS, 0, facts)
    assert bits(empty) == 0
    assert fit.choose([empty], PROFILE, TERMS).chosen is empty
