from __future__ import annotations

import dataclasses
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto import fit, quality
from sprat_proto.manifest import Facts
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


def test_keys_and_values_of_eight_bits_take_a_scale_for_each_block() -> None:
    elements = fit.need(Q4, 2048).kv // 2
    assert fit.need(Q4, 2048, kv_type="q8_0").kv == elements * 34 // 32


def test_no_more_context_is_counted_than_the_model_has() -> None:
    assert fit.need(Q4, 1 << 20).kv == fit.need(Q4, FACTS.context_length).kv


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
candidates = st.lists(
    st.builds(
        candidate,
        st.text("abcdef0123456789", min_size=1, max_size=8),
        st.integers(1, 60_000),
        st.sampled_from(["llama.cpp", "llama.cpp", "onnxruntime"]),
    ),
    max_size=6,
    unique_by=lambda one: one.variant,
)
contexts = st.integers(64, 1 << 20)


def with_room(memory: int, disk: int) -> fit.Profile:
    return dataclasses.replace(PROFILE, memory_budget_bytes=memory, disk_free_bytes=disk)


profiles = st.builds(with_room, sizes, sizes)


@given(candidates, profiles, contexts)
def test_what_is_chosen_always_fits(
    some: list[fit.Candidate], profile: fit.Profile, context: int
) -> None:
    chosen = fit.choose(some, profile, fit.Terms(context)).chosen
    if chosen is not None:
        needed = fit.need(chosen, context)
        assert needed.memory <= profile.memory_budget_bytes
        assert needed.disk <= profile.disk_free_bytes
        assert chosen.runtime in profile.runtimes


@given(candidates, profiles, contexts)
def test_nothing_better_that_fits_is_left_aside(
    some: list[fit.Candidate], profile: fit.Profile, context: int
) -> None:
    chosen = fit.choose(some, profile, fit.Terms(context)).chosen
    fitting = [one for one in some if fit.judge(one, profile, fit.Terms(context)).fits]
    if chosen is None:
        assert not fitting
    else:
        assert max(map(bits, fitting)) == bits(chosen)


@given(candidates, profiles, contexts)
def test_every_variant_has_one_verdict_with_its_reason(
    some: list[fit.Candidate], profile: fit.Profile, context: int
) -> None:
    choice = fit.choose(some, profile, fit.Terms(context))
    assert sorted(one.variant for one in choice.verdicts) == sorted(one.variant for one in some)
    for verdict in choice.verdicts:
        is_chosen = choice.chosen is not None and verdict.variant == choice.chosen.variant
        assert (verdict.code is None) == is_chosen
        assert verdict.message


@given(candidates, profiles, sizes, sizes, contexts)
def test_more_memory_or_disk_never_picks_a_worse_variant(
    some: list[fit.Candidate], profile: fit.Profile, memory: int, disk: int, context: int
) -> None:
    larger = dataclasses.replace(
        profile,
        memory_budget_bytes=profile.memory_budget_bytes + memory,
        disk_free_bytes=profile.disk_free_bytes + disk,
    )
    before = fit.choose(some, profile, fit.Terms(context)).chosen
    after = fit.choose(some, larger, fit.Terms(context)).chosen
    if before is not None:
        assert after is not None
        assert bits(after) >= bits(before)


@given(candidates, profiles, st.randoms(use_true_random=False), contexts)
def test_the_order_of_the_variants_does_not_matter(
    some: list[fit.Candidate], profile: fit.Profile, random: Random, context: int
) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    assert fit.choose(shuffled, profile, fit.Terms(context)) == fit.choose(
        some, profile, fit.Terms(context)
    )


@given(st.integers(64, 1 << 20), st.integers(64, 1 << 20))
def test_more_context_never_needs_less_memory(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert fit.need(Q4, low).memory <= fit.need(Q4, high).memory


@pytest.mark.parametrize("parameters", [0, 1])
def test_a_model_without_parameters_breaks_no_arithmetic(parameters: int) -> None:
    facts = msgspec.structs.replace(FACTS, parameters=parameters, weights_bytes=0)
    empty = fit.Candidate("empty", "e" * 64, "llama.cpp", HARDWARE_IDS, 0, facts)
    assert bits(empty) == 0
    assert fit.choose([empty], PROFILE, TERMS).chosen is empty
