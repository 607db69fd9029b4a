"""What a release or a rollout asks of fit: which variant is best, and what any must keep to. Pure.

Numbers are integers, since policies are signed; 0 and empty mean that nothing is asked. What is
asked and cannot be known is refused: a limit that nobody can check is not kept.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from sprat_proto.amounts import least, most, percent, thousandths
from sprat_proto.states import ReasonCode


class Aim(StrEnum):
    """Which of the variants that may run is the best one."""

    QUALITY_FIRST = "quality-first"
    SPEED_FIRST = "speed-first"
    SMALLEST = "smallest"


DEFAULT_PROMPT: Final = 512  # tokens

_Word = Annotated[str, Meta(min_length=1, max_length=64)]
_Words = Annotated[tuple[_Word, ...], Meta(max_length=32)]
_Number = Annotated[int, Meta(ge=0, le=1 << 53)]


class FitPolicy(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The terms of fit; each that is left out asks nothing."""

    aim: Aim = Aim.QUALITY_FIRST
    min_decode_milli_tps: _Number = 0  # thousandths of a token a second, one request alone
    max_ttft_ms: _Number = 0  # until the first token of an answer to `prompt_tokens`
    prompt_tokens: Annotated[int, Meta(ge=1, le=1 << 20)] = DEFAULT_PROMPT
    max_memory_bytes: _Number = 0  # in all: weights, context, compute and worker
    min_context: _Number = 0  # tokens that the model was made for, and that it is run with
    # Millionths, as `manifest.Evaluation.loss_ppm`; None asks nothing, 0 that nothing was lost.
    max_loss_ppm: _Number | None = None
    runtimes: _Words = ()  # any of these
    licences: _Words = ()  # any of these, as SPDX names them; letters count as equal in any case

    @property
    def is_default(self) -> bool:
        """Nothing is asked but the best quality."""
        return self == DEFAULT


DEFAULT: Final = FitPolicy()


class Offer(NamedTuple):
    """What a variant would be on a device, as policies judge it."""

    runtime: str
    licence: str
    memory_bytes: int
    made_for: int  # tokens of context; 0: it does not say
    context: int  # tokens that it would run with
    loss_ppm: int | None  # None: unknown
    decode_milli_tps: int  # 0: unknown
    ttft_ms: int | None  # for the policy's `prompt_tokens`; None: unknown


def refusal(policy: FitPolicy, offer: Offer) -> tuple[ReasonCode, str] | None:
    """Return the first thing in which an offer does not keep to a policy, as one sentence."""
    return (
        _not_allowed(policy, offer)
        or _size_refusal(policy, offer)
        or _quality_refusal(policy, offer)
        or _speed_refusal(policy, offer)
    )


def _not_allowed(policy: FitPolicy, offer: Offer) -> tuple[ReasonCode, str] | None:
    if policy.runtimes and offer.runtime not in policy.runtimes:
        allowed = ", ".join(policy.runtimes)
        message = f"needs the runtime {offer.runtime}, the policy allows {allowed}"
        return ReasonCode.RUNTIME_NOT_ALLOWED, message
    licence = offer.licence.strip()
    if policy.licences and licence.casefold() not in map(str.casefold, policy.licences):
        allowed = ", ".join(policy.licences)
        message = f"has the licence {licence or 'unknown'}, the policy allows {allowed}"
        return ReasonCode.LICENCE_NOT_ALLOWED, message
    return None


def _size_refusal(policy: FitPolicy, offer: Offer) -> tuple[ReasonCode, str] | None:
    if policy.max_memory_bytes and offer.memory_bytes > policy.max_memory_bytes:
        needs, limit = least(offer.memory_bytes), most(policy.max_memory_bytes)
        message = f"needs {needs} of memory, the policy allows {limit}"
        return ReasonCode.OVER_MEMORY_LIMIT, message
    asked = f"the policy asks for {policy.min_context}"
    if offer.made_for < policy.min_context:
        made_for = f"{offer.made_for} tokens" if offer.made_for else "an unknown number of tokens"
        return ReasonCode.CONTEXT_TOO_SHORT, f"is made for {made_for} of context, {asked}"
    if offer.context < policy.min_context:
        message = f"would run with {offer.context} tokens of context, {asked}"
        return ReasonCode.CONTEXT_TOO_SHORT, message
    return None


def _quality_refusal(policy: FitPolicy, offer: Offer) -> tuple[ReasonCode, str] | None:
    if policy.max_loss_ppm is None:
        return None
    limit = percent(policy.max_loss_ppm)
    if offer.loss_ppm is None:
        message = f"was not evaluated, the policy allows a quality loss of {limit}"
        return ReasonCode.QUALITY_UNKNOWN, message
    if offer.loss_ppm > policy.max_loss_ppm:
        message = f"loses {percent(offer.loss_ppm)} of its quality, the policy allows {limit}"
        return ReasonCode.QUALITY_TOO_LOW, message
    return None


def _speed_refusal(policy: FitPolicy, offer: Offer) -> tuple[ReasonCode, str] | None:
    floor = f"{thousandths(policy.min_decode_milli_tps)} tokens a second"
    latest = f"{policy.max_ttft_ms} ms"
    prompt = f"a prompt of {policy.prompt_tokens} tokens"
    if policy.min_decode_milli_tps and not offer.decode_milli_tps:
        message = f"has no known rate on this device, the policy asks for {floor}"
        return ReasonCode.RATE_UNKNOWN, message
    if offer.decode_milli_tps < policy.min_decode_milli_tps:
        rate = thousandths(offer.decode_milli_tps)
        return ReasonCode.TOO_SLOW, f"decodes {rate} tokens a second, the policy asks for {floor}"
    if policy.max_ttft_ms and offer.ttft_ms is None:
        message = f"has no known rate on this device, the policy allows {latest} for {prompt}"
        return ReasonCode.RATE_UNKNOWN, message
    if policy.max_ttft_ms and offer.ttft_ms is not None and offer.ttft_ms > policy.max_ttft_ms:
        message = f"answers after {offer.ttft_ms} ms, the policy allows {latest} for {prompt}"
        return ReasonCode.ANSWERS_TOO_LATE, message
    return None
