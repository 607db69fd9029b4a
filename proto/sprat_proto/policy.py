"""What a release or a rollout asks of fit: which variant is best, and what any must keep to. Pure.

Numbers are integers, since policies are signed; 0 and empty mean that nothing is asked.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct


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
    min_context: _Number = 0  # tokens that the model was made for
    # Millionths, as `manifest.Evaluation.loss_ppm`; None asks nothing, 0 that nothing was lost.
    max_loss_ppm: _Number | None = None
    runtimes: _Words = ()  # any of these
    licences: _Words = ()  # any of these, as SPDX names them; letters count as equal in any case

    @property
    def is_default(self) -> bool:
        """Nothing is asked but the best quality."""
        return self == DEFAULT


DEFAULT: Final = FitPolicy()
