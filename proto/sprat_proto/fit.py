"""Which variant a device can carry, and why not the others: the rule both sides share. Pure.

Memory of a running variant, in bytes:

    weights + keys and values x layers x context x slots + compute buffers + the worker process

Weights count once: workers read them into buffers, repacked for the processor where llama.cpp does
so, and map no file. The compute and process terms are estimates for llama.cpp 0.3.36 on a CPU with
a micro-batch of 512 tokens: activations of a layer, the mask of attention, and a row of logits for
each slot. The process has the vocabulary twice: once for the model, and once to hold answers to a
grammar, from the first moment of rest on. The estimates lean to the safe side: they were up to 3 %
above the peak in 36 cells of shape, quantization, context and slots (docs/benchmarks.md).

What the device cannot change is judged first (hardware, runtime, memory, disk), then what the
policy asks (`policy.refusal`); of what is left, `ranking` says what is best. A judgement rests on
one variant's own manifest, the device's own profile and rates: a device comes to the same as the
controller, though it never sees the siblings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sprat_proto import policy, quality, ranking, rates
from sprat_proto.amounts import least, most
from sprat_proto.manifest import Evaluation, Facts
from sprat_proto.policy import DEFAULT, Aim, FitPolicy, Offer
from sprat_proto.ranking import Rival
from sprat_proto.rates import Measured, Rates
from sprat_proto.states import ReasonCode
from sprat_proto.trust import hardware_id

MIB: Final = 1 << 20
# Bytes and elements of a block of keys and values; Q8_0 has a 2-byte scale for each 32 of them.
KV_BLOCKS: Final[Mapping[str, tuple[int, int]]] = {"f16": (2, 1), "q8_0": (34, 32)}
MAX_SLOTS: Final = 64  # requests that one model may be told to answer at once
MICRO_BATCH: Final = 512  # tokens
# Activations of one layer that live at once: so many embedding widths, or, where the feed-forward
# layers are wide, so many of theirs and of the embedding.
COMPUTE_ROWS: Final = 12
INNER_ROWS: Final = 3
BESIDE_INNER_ROWS: Final = 4
WORKER_BYTES: Final = 64 * MIB  # interpreter, numpy, libllama, llguidance
VOCABULARY_BYTES: Final = 400  # for each token of the vocabulary
MASK_BYTES: Final = 4  # for each token of the micro-batch and each token that it may look at
LOGIT_BYTES: Final = 4
DISK_RESERVE_BYTES: Final = 64 * MIB  # for the journal and the registry's own files
# Why a variant that fits is not the chosen one.
NOT_BEST: Final = frozenset({ReasonCode.LOWER_QUALITY, ReasonCode.SLOWER, ReasonCode.LARGER})
# Why one could not run however much room there were.
NOT_RUNNABLE: Final = frozenset({ReasonCode.WRONG_HARDWARE, ReasonCode.RUNTIME_MISSING})
_NOTHING_OBSERVED: Final[Mapping[str, Rates]] = MappingProxyType({})


@dataclass(frozen=True)
class CoreKind:
    """Processors that are alike."""

    count: int
    capacity: int  # of 1,024, the strongest's (kernel documentation, cpu_capacity)
    max_mhz: int = 0  # 0: unknown


@dataclass(frozen=True)
class Profile:
    """What is known of a device's hardware; sizes in bytes. See `HardwareProfile` on the wire."""

    arch: str
    cores: int
    cpu_features: tuple[str, ...]
    memory_bytes: int
    memory_budget_bytes: int
    disk_free_bytes: int
    accelerators: tuple[str, ...]
    os: str
    simulated: bool
    runtimes: tuple[str, ...]
    processor: str = ""  # as the kernel names it
    core_kinds: tuple[CoreKind, ...] = ()  # strongest first; one where all are alike
    cpu_quota_milli: int = 0  # thousandths of a processor that a control group allows; 0: no limit
    memory_limit_bytes: int = 0  # of a control group; 0: no limit
    memory_available_bytes: int = 0  # when it was told; 0: the kernel does not say
    throttle_permille: int | None = None  # of the processor's speed that heat takes; None: unknown
    power: str = ""  # `mains` or `battery`; empty: unknown
    measured: Measured | None = None


@dataclass(frozen=True)
class Candidate:
    """A variant as fit sees it; `hardware_ids` are what its publisher released it for."""

    variant: str
    digest: str
    runtime: str
    hardware_ids: tuple[str, ...]
    disk_needed: int
    facts: Facts
    adapters_bytes: int = 0  # of all its LoRAs, which are in memory as long as it is
    evaluation: Evaluation | None = None
    policy: FitPolicy = DEFAULT  # the release's own
    needs: int = 0  # the capability of an agent that can read its manifest


@dataclass(frozen=True)
class Need:
    """What a variant takes of a device, in bytes."""

    weights: int
    kv: int
    compute: int
    worker: int
    disk: int

    @property
    def memory(self) -> int:
        """All memory together."""
        return self.weights + self.kv + self.compute + self.worker


@dataclass(frozen=True)
class Terms:
    """How a variant is to run: what counts for its memory, and what it must keep to."""

    context: int  # tokens that one request may take
    slots: int = 1  # requests answered at once
    kv_type: str = "f16"  # of keys and values: a name in `KV_BLOCKS`
    policy: FitPolicy | None = None  # None: the release's own, `Candidate.policy`


@dataclass(frozen=True)
class Verdict:
    """One variant on one device: accepted, or the reason and the numbers."""

    variant: str
    digest: str
    need: Need
    code: ReasonCode | None
    message: str
    rates: Rates
    ttft_ms: int | None  # for the policy's `prompt_tokens`; None: unknown
    loss_ppm: int | None  # None: unknown

    @property
    def fits(self) -> bool:
        """The device can carry it (though a better one may be chosen)."""
        return self.code is None or self.code in NOT_BEST


@dataclass(frozen=True)
class Choice:
    """The chosen variant, if any, and the verdict on every one, best first by the aim."""

    chosen: Candidate | None
    verdicts: tuple[Verdict, ...]


def need(candidate: Candidate, context: int, slots: int = 1, kv_type: str = "f16") -> Need:
    """Return what the candidate takes.

    Args:
        candidate: The variant.
        context: Tokens that one request may take.
        slots: Requests answered at once, each with a context of its own.
        kv_type: Of keys and values: a name in `KV_BLOCKS`.
    """
    facts = candidate.facts
    tokens = min(context, facts.context_length) if facts.context_length else context
    per_token = facts.layers * facts.kv_heads * (facts.key_length + facts.value_length)
    block_bytes, block_length = KV_BLOCKS[kv_type]
    elements = tokens * per_token * slots
    wide = INNER_ROWS * facts.inner_length + BESIDE_INNER_ROWS * facts.embedding_length
    activations = MICRO_BATCH * max(COMPUTE_ROWS * facts.embedding_length, wide) * 4
    mask = MICRO_BATCH * tokens * MASK_BYTES
    logits = facts.vocabulary * slots * LOGIT_BYTES
    return Need(
        weights=facts.weights_bytes + candidate.adapters_bytes,
        kv=-(-elements // block_length) * block_bytes,
        compute=activations + mask + logits,
        worker=WORKER_BYTES + facts.vocabulary * VOCABULARY_BYTES,
        disk=candidate.disk_needed + DISK_RESERVE_BYTES,
    )


def judge(
    candidate: Candidate,
    profile: Profile,
    terms: Terms,
    observed: Mapping[str, Rates] = _NOTHING_OBSERVED,
) -> Verdict:
    """Tell whether one variant fits one device and keeps to its policy.

    Args:
        candidate: The variant.
        profile: The device.
        terms: How it is to run.
        observed: By digest, what devices of this hardware class measured with it.
    """
    asked = terms.policy or candidate.policy
    needed = need(candidate, terms.context, terms.slots, terms.kv_type)
    # No longer prompt can be asked than the context holds; rates are those at its end.
    prompt = min(asked.prompt_tokens, terms.context)
    rated = rates.expected(
        candidate.facts, profile.measured, prompt, observed.get(candidate.digest)
    )
    ttft_ms = rated.ttft_ms(prompt)
    loss_ppm = quality.loss_ppm(candidate.facts, candidate.evaluation)
    offer = Offer(
        runtime=candidate.runtime,
        licence=candidate.facts.licence,
        memory_bytes=needed.memory,
        made_for=candidate.facts.context_length,
        context=terms.context,
        loss_ppm=loss_ppm,
        decode_milli_tps=rated.decode_milli_tps,
        ttft_ms=ttft_ms,
    )
    refused = _hardware_refusal(candidate, needed, profile) or policy.refusal(asked, offer)
    code, message = refused or (None, "fits")
    return Verdict(
        candidate.variant, candidate.digest, needed, code, message, rated, ttft_ms, loss_ppm
    )


def choose(
    candidates: Sequence[Candidate],
    profile: Profile,
    terms: Terms,
    observed: Mapping[str, Rates] = _NOTHING_OBSERVED,
) -> Choice:
    """Pick the best variant of a release that fits, by the aim of its policy; see `judge`."""
    judged = [(one, judge(one, profile, terms, observed)) for one in candidates]
    rivals = [(_rival(one, verdict), one, verdict) for one, verdict in judged]
    order = ranking.ranking(_aim(candidates, terms), [rival for rival, _, _ in rivals])
    rivals.sort(key=lambda ranked: order.key(ranked[0]))
    best = next((rival for rival, _, verdict in rivals if verdict.fits), None)
    chosen: Candidate | None = None
    verdicts: list[Verdict] = []
    for rival, one, verdict in rivals:
        if best is None or not verdict.fits:
            verdicts.append(verdict)
        elif rival is best:
            chosen = one
            verdicts.append(verdict)
        else:
            verdicts.append(_not_best(verdict, *order.why_not(best, rival)))
    return Choice(chosen, tuple(verdicts))


def _not_best(verdict: Verdict, code: ReasonCode, message: str) -> Verdict:
    # `dataclasses.replace` takes four times as long, and a plan for a fleet does this often.
    return Verdict(
        verdict.variant,
        verdict.digest,
        verdict.need,
        code,
        message,
        verdict.rates,
        verdict.ttft_ms,
        verdict.loss_ppm,
    )


def _rival(candidate: Candidate, verdict: Verdict) -> Rival:
    said = candidate.evaluation
    facts = candidate.facts
    return Rival(
        variant=candidate.variant,
        digest=candidate.digest,
        can_run=verdict.code not in NOT_RUNNABLE,
        memory_bytes=verdict.need.memory,
        bits_per_weight_milli=quality.bits_per_weight_milli(facts),
        loss_ppm=verdict.loss_ppm,
        yardstick=None if said is None else (said.reference, said.text_sha256),
        decode_milli_tps=verdict.rates.decode_milli_tps,
        bytes_per_token=sum(facts.bytes_per_token.values()) or facts.weights_bytes,
    )


def _aim(candidates: Sequence[Candidate], terms: Terms) -> Aim:
    """Return what the best is; where variants of a release disagree, it is quality."""
    if terms.policy is not None:
        return terms.policy.aim
    aims = {one.policy.aim for one in candidates}
    return aims.pop() if len(aims) == 1 else DEFAULT.aim


def _hardware_refusal(
    candidate: Candidate, needed: Need, profile: Profile
) -> tuple[ReasonCode, str] | None:
    here = hardware_id(profile.arch)
    if here not in candidate.hardware_ids:
        released = ", ".join(candidate.hardware_ids) or "nothing"
        return ReasonCode.WRONG_HARDWARE, f"is released for {released}, the device is {here}"
    if candidate.runtime not in profile.runtimes:
        has = ", ".join(profile.runtimes) or "none"
        message = f"needs the runtime {candidate.runtime}, the device has {has}"
        return ReasonCode.RUNTIME_MISSING, message
    if needed.memory > profile.memory_budget_bytes:
        message = (
            f"needs {least(needed.memory)} of memory (weights {least(needed.weights)}, context"
            f" {least(needed.kv)}, compute {least(needed.compute)}, worker {least(needed.worker)}),"
            f" the budget is {most(profile.memory_budget_bytes)}"
        )
        return ReasonCode.INSUFFICIENT_MEMORY, message
    if needed.disk > profile.disk_free_bytes:
        disk, free = least(needed.disk), most(profile.disk_free_bytes)
        return ReasonCode.INSUFFICIENT_DISK, f"needs {disk} of disk, {free} are free"
    return None
