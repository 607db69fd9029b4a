"""Which variant a device can carry, and why not the others: the rule both sides share. Pure.

Memory of a running variant, in bytes:

    weights + keys and values x layers x context x slots + compute buffers + the worker process

Weights count once: workers read them into buffers, repacked for the processor where llama.cpp does
so, and map no file. The compute and process terms are estimates for llama.cpp 0.3.36 on a CPU with
a micro-batch of 512 tokens: activations of a layer, the mask of attention, and a row of logits for
each slot. The process has the vocabulary twice: once for the model, and once to hold answers to a
grammar, from the first moment of rest on. The estimates lean to the safe side: they were 0.2 to 3 %
above the peak in 18 cells of shape, quantization and context (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sprat_proto.manifest import Evaluation, Facts
from sprat_proto.policy import DEFAULT, FitPolicy
from sprat_proto.rates import Measured
from sprat_proto.states import ReasonCode
from sprat_proto.trust import hardware_id

MIB: Final = 1 << 20
# Bytes and elements of a block of keys and values; Q8_0 has a 2-byte scale for each 32 of them.
KV_BLOCKS: Final[Mapping[str, tuple[int, int]]] = {"f16": (2, 1), "q8_0": (34, 32)}
MAX_SLOTS: Final = 64  # requests that one model may be told to answer at once
MICRO_BATCH: Final = 512  # tokens
COMPUTE_ROWS: Final = 12  # activations of one layer that live at once, in embedding widths
WORKER_BYTES: Final = 64 * MIB  # interpreter, numpy, libllama, llguidance
VOCABULARY_BYTES: Final = 400  # for each token of the vocabulary
MASK_BYTES: Final = 4  # for each token of the micro-batch and each token that it may look at
LOGIT_BYTES: Final = 4
DISK_RESERVE_BYTES: Final = 64 * MIB  # for the journal and the registry's own files


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
class Verdict:
    """One variant on one device: accepted, or the reason and the numbers."""

    variant: str
    digest: str
    need: Need
    code: ReasonCode | None
    message: str

    @property
    def fits(self) -> bool:
        """The device can carry it (though a better one may be chosen)."""
        return self.code in (None, ReasonCode.LOWER_QUALITY)


@dataclass(frozen=True)
class Choice:
    """The chosen variant, if any, and the verdict on every one, best quality first."""

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
    activations = MICRO_BATCH * facts.embedding_length * COMPUTE_ROWS * 4
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
    candidate: Candidate, profile: Profile, context: int, slots: int = 1, kv_type: str = "f16"
) -> Verdict:
    """Tell whether one variant fits one device; see `need`."""
    needed = need(candidate, context, slots, kv_type)
    code, message = _refusal(candidate, needed, profile)
    return Verdict(candidate.variant, candidate.digest, needed, code, message)


def choose(
    candidates: Sequence[Candidate],
    profile: Profile,
    context: int,
    slots: int = 1,
    kv_type: str = "f16",
) -> Choice:
    """Pick the best variant that fits: the most bits per weight, since quality follows them.

    Ties (two variants of equal size) go to the name that sorts first, so that every replica and
    the device agree.
    """
    ranked = sorted(candidates, key=lambda one: (-bits_per_weight_milli(one), one.variant))
    verdicts: list[Verdict] = []
    chosen: Candidate | None = None
    for candidate in ranked:
        verdict = judge(candidate, profile, context, slots, kv_type)
        if verdict.code is None and chosen is not None:
            verdict = Verdict(
                verdict.variant,
                verdict.digest,
                verdict.need,
                ReasonCode.LOWER_QUALITY,
                f"fits, but {chosen.variant} keeps more of the model"
                f" ({_bits(chosen)} bits per weight against {_bits(candidate)})",
            )
        elif verdict.code is None:
            chosen = candidate
        verdicts.append(verdict)
    return Choice(chosen, tuple(verdicts))


def bits_per_weight_milli(candidate: Candidate) -> int:
    """Return thousandths of a bit that the variant spends on one weight."""
    return candidate.facts.weights_bytes * 8000 // max(candidate.facts.parameters, 1)


def _bits(candidate: Candidate) -> str:
    return f"{bits_per_weight_milli(candidate) / 1000:.1f}"


def _refusal(candidate: Candidate, needed: Need, profile: Profile) -> tuple[ReasonCode | None, str]:
    here = hardware_id(profile.arch)
    if here not in candidate.hardware_ids:
        released = ", ".join(candidate.hardware_ids) or "nothing"
        return ReasonCode.WRONG_HARDWARE, f"is released for {released}, the device is {here}"
    if candidate.runtime not in profile.runtimes:
        has = ", ".join(profile.runtimes) or "none"
        return (
            ReasonCode.RUNTIME_MISSING,
            f"needs the runtime {candidate.runtime}, the device has {has}",
        )
    if needed.memory > profile.memory_budget_bytes:
        parts = (
            f"weights {_mib(needed.weights)}, context {_mib(needed.kv)},"
            f" compute {_mib(needed.compute)}, worker {_mib(needed.worker)}"
        )
        budget = _mib(profile.memory_budget_bytes)
        return (
            ReasonCode.INSUFFICIENT_MEMORY,
            f"needs {_mib(needed.memory)} of memory ({parts}), the budget is {budget}",
        )
    if needed.disk > profile.disk_free_bytes:
        return (
            ReasonCode.INSUFFICIENT_DISK,
            f"needs {_mib(needed.disk)} of disk, {_mib(profile.disk_free_bytes)} are free",
        )
    return None, "fits"


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
