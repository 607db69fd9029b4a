"""Any variants, hardware, policies and rates that the types allow, for properties of fit."""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from sprat_proto import fit
from sprat_proto.fit import Candidate, Profile, Terms
from sprat_proto.manifest import Evaluation, Facts
from sprat_proto.policy import Aim, FitPolicy
from sprat_proto.rates import Basis, Measured, Rates, TypeCost
from sprat_proto.trust import HARDWARE_IDS

from simulators.boards import BOARDS
from simulators.shapes import QWEN3_06B, facts

# A property is of the rule, not of how busy the machine is.
UNTIMED: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KINDS: Final = ("f16", "q8_0", "q5_1", "q4_0", "q4_k", "q6_k", "f32", "no-such-type")
_SIZES: Final = st.integers(0, 1 << 36)
# Few, so that variants tie, fit and fail in every mixture.
_LOSSES: Final = st.sampled_from([0, 300, 300, 21_000, 48_000])
_BYTES: Final = st.dictionaries(st.sampled_from(KINDS), st.integers(0, 1 << 34), max_size=3)


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    """Return an evaluation against one of few yardsticks."""
    return Evaluation(
        reference=draw(st.sampled_from(["f16", "f16", "f16", "q8_0"])),
        text_sha256=draw(st.sampled_from(["7" * 64, "7" * 64, "8" * 64])),
        tokens=1000,
        perplexity_milli=10_000,
        kl_nano=1,
        same_top_ppm=1,
        loss_ppm=draw(_LOSSES),
    )


@st.composite
def a_candidate(draw: st.DrawFn, name: str) -> Candidate:
    """Return a variant of this name."""
    read: Facts = msgspec.structs.replace(
        facts(QWEN3_06B, "q4_0"),
        quantization=name,
        weights_bytes=draw(st.integers(1, 1 << 34)),
        context_length=draw(st.sampled_from([0, 1024, 40_960])),
        licence=draw(st.sampled_from(["", "apache-2.0", "MIT"])),
        tensor_bytes=draw(_BYTES),
        bytes_per_token=draw(_BYTES),
        window=draw(st.sampled_from([0, 512])),
        window_layers=draw(st.sampled_from([0, 14, 99])),
    )
    return Candidate(
        variant=name,
        digest=name.encode().hex().ljust(64, "0"),
        runtime=draw(st.sampled_from(["llama.cpp", "llama.cpp", "npu"])),
        hardware_ids=draw(st.sampled_from([HARDWARE_IDS, HARDWARE_IDS, ("cpu-x86_64",)])),
        disk_needed=draw(st.integers(0, 1 << 34)),
        facts=read,
        adapters_bytes=draw(st.integers(0, 1 << 28)),
        evaluation=draw(st.none() | evaluations()),
        policy=draw(st.sampled_from([FitPolicy(), FitPolicy(aim=Aim.SMALLEST)])),
    )


@st.composite
def candidates(draw: st.DrawFn, most: int = 5) -> list[Candidate]:
    """Return variants of a release, in any order."""
    names = st.sampled_from(["f16", "q8_0", "q5_1", "q4_k_m", "q4_0", "q2_k"])
    chosen = draw(st.lists(names, max_size=most, unique=True))
    return [draw(a_candidate(name)) for name in chosen]


_NUMBERS: Final = st.integers(0, 1 << 53)


@st.composite
def any_measured(draw: st.DrawFn) -> Measured:
    """Return what a device might say that it measured, sense or not."""
    kinds = draw(st.lists(st.sampled_from(KINDS), unique=True))
    return Measured(
        at_ms=1,
        engine="any",
        threads=1,
        bandwidth=draw(_NUMBERS),
        step_ns=draw(_NUMBERS),
        layer_ns=draw(_NUMBERS),
        kv_fs=draw(_NUMBERS),
        costs=tuple(TypeCost(kind, draw(_NUMBERS), draw(_NUMBERS)) for kind in kinds),
        look_fs=draw(_NUMBERS),
    )


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Return one of the boards with any room, often with its own rates."""
    one = draw(st.sampled_from(list(BOARDS.values())))
    return dataclasses.replace(
        one,
        memory_budget_bytes=draw(_SIZES),
        disk_free_bytes=draw(_SIZES),
        measured=draw(st.just(one.measured) | st.none() | any_measured()),
    )


@st.composite
def policies(draw: st.DrawFn) -> FitPolicy:
    """Return a policy; numbers near those of candidates."""
    return FitPolicy(
        aim=draw(st.sampled_from(list(Aim))),
        min_decode_milli_tps=draw(st.sampled_from([0, 0, 1000, 10_000])),
        max_ttft_ms=draw(st.sampled_from([0, 0, 500, 60_000])),
        prompt_tokens=draw(st.sampled_from([1, 512, 1 << 20])),
        max_memory_bytes=draw(st.just(0) | _SIZES),
        min_context=draw(st.sampled_from([0, 0, 1024, 2048])),
        max_loss_ppm=draw(st.none() | _LOSSES),
        runtimes=draw(st.sampled_from([(), ("llama.cpp",), ("npu", "llama.cpp")])),
        licences=draw(st.sampled_from([(), ("Apache-2.0",), ("MIT", "apache-2.0")])),
    )


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    """Return how a variant is to run."""
    return Terms(
        context=draw(st.sampled_from([64, 512, 2048, 1 << 20])),
        slots=draw(st.sampled_from([1, 1, 4, fit.MAX_SLOTS])),
        kv_type=draw(st.sampled_from(sorted(fit.KV_BLOCKS))),
        policy=draw(st.none() | policies()),
    )


@st.composite
def observations(draw: st.DrawFn, release: list[Candidate]) -> dict[str, Rates]:
    """Return rates that devices of a class measured with some of the variants."""
    some = [one for one in release if draw(st.booleans())]
    milli = st.sampled_from([0, 1, 5000, 5000, 50_000])
    return {one.digest: Rates(Basis.OBSERVED, draw(milli), draw(milli)) for one in some}
