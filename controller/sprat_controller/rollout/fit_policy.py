"""A rollout's policy of fit: as people ask for it, checked, stored, and said again. Pure.

People say tokens a second and percent; what is signed are integers (`sprat_proto.policy`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sprat_proto.manifest import is_model_name
from sprat_proto.policy import DEFAULT_PROMPT, Aim, FitPolicy

from sprat_controller.errors import RequestError

MAX_NUMBER: Final = 1 << 53  # as `FitPolicy` allows
MAX_PROMPT: Final = 1 << 20  # tokens
MAX_WORDS: Final = 32
MAX_WORD: Final = 64  # characters
_MILLI: Final = 1000
_PPM_OF_PERCENT: Final = 10_000


def asked(
    *,
    aim: Aim = Aim.QUALITY_FIRST,
    min_decode_tps: float = 0,
    max_ttft_ms: int = 0,
    prompt_tokens: int = DEFAULT_PROMPT,
    max_memory_bytes: int = 0,
    min_context: int = 0,
    max_quality_loss: float | None = None,
    runtimes: Sequence[str] = (),
    licences: Sequence[str] = (),
) -> FitPolicy:
    """Return a policy as somebody asks for it; `check` judges it.

    Args:
        aim: What the best is.
        min_decode_tps: Tokens a second, finite.
        max_ttft_ms: Until the first token of an answer.
        prompt_tokens: For which that counts.
        max_memory_bytes: In all.
        min_context: Tokens.
        max_quality_loss: Percent, finite; None: nothing is asked.
        runtimes: Any of these; none: any.
        licences: Any of these; none: any.
    """
    decode_milli_tps = round(min_decode_tps * _MILLI)
    return FitPolicy(
        aim=aim,
        # A rate so low that it would round to nothing is asked all the same.
        min_decode_milli_tps=max(decode_milli_tps, 1) if min_decode_tps > 0 else decode_milli_tps,
        max_ttft_ms=max_ttft_ms,
        prompt_tokens=prompt_tokens,
        max_memory_bytes=max_memory_bytes,
        min_context=min_context,
        max_loss_ppm=(
            None if max_quality_loss is None else round(max_quality_loss * _PPM_OF_PERCENT)
        ),
        runtimes=tuple(runtimes),
        licences=tuple(licences),
    )


def said(policy: FitPolicy) -> dict[str, Any]:
    """Return a policy as people say it; the arguments of `asked`."""
    loss = policy.max_loss_ppm
    return {
        "aim": policy.aim,
        "min_decode_tps": policy.min_decode_milli_tps / _MILLI,
        "max_ttft_ms": policy.max_ttft_ms,
        "prompt_tokens": policy.prompt_tokens,
        "max_memory_bytes": policy.max_memory_bytes,
        "min_context": policy.min_context,
        "max_quality_loss": None if loss is None else loss / _PPM_OF_PERCENT,
        "runtimes": [*policy.runtimes],
        "licences": [*policy.licences],
    }


def check(policy: FitPolicy, context: int) -> None:
    """Check that a policy can be signed, and kept to with this context, in tokens.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    numbers = {
        "min_decode_tps": policy.min_decode_milli_tps,
        "max_ttft_ms": policy.max_ttft_ms,
        "max_memory_bytes": policy.max_memory_bytes,
        "min_context": policy.min_context,
        "max_quality_loss": policy.max_loss_ppm or 0,
    }
    people_say = said(policy)
    for name, number in numbers.items():
        if not 0 <= number <= MAX_NUMBER:
            raise _wrong(name, "0 or more, and no astronomic number", people_say[name])
    if not 1 <= policy.prompt_tokens <= MAX_PROMPT:
        raise _wrong("prompt_tokens", f"1 to {MAX_PROMPT} tokens", policy.prompt_tokens)
    if policy.min_context > context:
        expected = f"at most the {context} tokens of context that this is planned with"
        raise _wrong("min_context", expected, policy.min_context)
    _check_words("runtimes", policy.runtimes)
    _check_words("licences", policy.licences)
    for runtime in policy.runtimes:
        if not is_model_name(runtime):
            raise _wrong("runtimes", "names such as llama.cpp", runtime)


def to_json(policy: FitPolicy | None) -> dict[str, Any] | None:
    """Return the policy as it stands in `Rollout.policy`."""
    return None if policy is None else msgspec.to_builtins(policy)


def from_json(stored: Mapping[str, Any] | None) -> FitPolicy | None:
    """Return the policy that was stored; None: the release's own."""
    return None if stored is None else msgspec.convert(stored, FitPolicy)


def _check_words(name: str, words: Sequence[str]) -> None:
    if len(words) > MAX_WORDS:
        raise _wrong(name, f"at most {MAX_WORDS} of them", len(words))
    for word in words:
        if not 0 < len(word) <= MAX_WORD or not word.isprintable():
            raise _wrong(name, f"words of 1 to {MAX_WORD} characters", word)


def _wrong(name: str, expected: str, found: object) -> RequestError:
    return RequestError("invalid_rollout", f"policy.{name}: expected {expected}, found {found!r}")
