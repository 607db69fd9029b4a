"""A probe file: what a release's devices hold it to, as its publisher writes it.

See `docs/publish.md`. What it becomes in the manifest is `sprat_proto.probes.Proof`; a bound on the
perplexity that was left out is measured of the original (`bound_of`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct
from msgspec.structs import replace
from sprat_proto import probes
from sprat_proto.manifest import Activation, GoldenPrompt
from sprat_proto.probes import Proof, ScoredText

# What a quantized variant may lose against the original, and then some.
MARGIN_PERCENT: Final = 25

_Percent = Annotated[int, Meta(ge=0, le=100)]
_Of = Annotated[int, Meta(ge=1, le=10_000)]  # percent of something
_Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
_File = Annotated[str, Meta(min_length=1, max_length=4096)]


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """A golden prompt; `expect` of match `schema` is a JSON schema's text."""

    prompt: Annotated[str, Meta(min_length=1, max_length=8192)]
    expect: Annotated[str, Meta(max_length=8192)]
    match: probes.Match = "contains"
    max_tokens: Annotated[int, Meta(ge=1, le=1024)] = 32
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1


class Text(Struct, frozen=True, forbid_unknown_fields=True):
    """A text that is scored, and how much it may surprise."""

    file: _File
    tokens: Annotated[int, Meta(ge=1, le=probes.MAX_SCORED)] = probes.DEFAULT_SCORED
    # Exactly one of them may be said; neither: `MARGIN_PERCENT`.
    max_perplexity: Annotated[float, Meta(ge=1, le=1_000_000)] | None = None
    margin_percent: Annotated[int, Meta(ge=1, le=1000)] | None = None


class Bounds(Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured while it is probed."""

    min_decode_tps: _Rate | None = None
    min_decode_percent: _Of | None = None  # of what the device runs now
    max_ttft_ms: Annotated[int, Meta(ge=1, le=1 << 40)] | None = None
    max_memory_percent: _Of | None = None  # of what fit declares


class Soak(Struct, frozen=True, forbid_unknown_fields=True):
    """What real requests must show."""

    seconds: Annotated[int, Meta(ge=0, le=30 * 86400)] | None = None
    traffic_percent: _Percent = 0  # of the alias's requests that the candidate answers meanwhile
    min_requests: Annotated[int, Meta(ge=1, le=1 << 32)] = 10
    max_error_percent: _Percent | None = None
    min_decode_percent: _Of | None = None  # of what the device ran before


class ProbeFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    schema: Literal[1] = 1
    golden: Annotated[tuple[Golden, ...], Meta(max_length=64)] = ()
    min_score_percent: _Percent = 100
    timeout_s: Annotated[int, Meta(ge=1, le=3600)] = 300
    text: Text | None = None
    bounds: Bounds = Bounds()
    soak: Soak = Soak()


@dataclass(frozen=True)
class ProbeText:
    """A text that was read, whose bound is perhaps to be measured yet."""

    text: str
    tokens: int
    margin_percent: int = MARGIN_PERCENT
    bound_milli: int = 0  # 0: measure the original's perplexity, and add the margin


def activation_of(said: ProbeFile, golden: tuple[GoldenPrompt, ...], soak_s: int) -> Activation:
    """Return what a manifest says of it, without the text.

    Args:
        said: The file.
        golden: More golden prompts, from options.
        soak_s: Where the file does not say it.
    """
    file_golden = [
        GoldenPrompt(
            one.prompt,
            one.expect,
            one.match,
            one.max_tokens,
            UNSET if one.weight == 1 else one.weight,
        )
        for one in said.golden
    ]
    bounds, soak = said.bounds, said.soak
    proof = Proof(
        min_score_permille=said.min_score_percent * 10,
        bounds=probes.Bounds(
            min_decode_milli_tps=round((bounds.min_decode_tps or 0) * 1000),
            min_decode_permille=(bounds.min_decode_percent or 0) * 10,
            max_ttft_ms=bounds.max_ttft_ms or 0,
            max_memory_permille=(bounds.max_memory_percent or 0) * 10,
        ),
        soak=probes.SoakBounds(
            min_requests=soak.min_requests,
            max_error_permille=_permille(soak.max_error_percent),
            min_decode_permille=_permille(soak.min_decode_percent),
        ),
    )
    return Activation(
        probe=[*file_golden, *golden],
        probe_timeout_s=said.timeout_s,
        soak_s=soak_s if soak.seconds is None else soak.seconds,
        soak_traffic_percent=soak.traffic_percent,
        # What asks for nothing more is spelled so that older agents can read it.
        proof=UNSET if proof == probes.NOTHING_MORE else proof,
    )


def with_text(activation: Activation, text: ScoredText) -> Activation:
    """Return it with a text that is scored."""
    return replace(activation, proof=replace(activation.terms, text=text))


def bound_of(perplexity: float, margin_percent: int) -> int:
    """Return the bound that an original's perplexity and a margin give, in thousandths."""
    return max(1000, round(perplexity * 10 * (100 + margin_percent)))


def _permille(percent: int | None) -> int | None:
    return None if percent is None else percent * 10
