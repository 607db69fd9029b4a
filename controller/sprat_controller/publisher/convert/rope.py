"""The rotary embedding: its metadata, and the tensors of factors that some models have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sprat_controller.publisher.convert.config import Config, Rope
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.metadata import Metadata

_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "llama": frozenset({"default", "linear", "yarn", "llama3"}),
    "qwen3": frozenset({"default", "linear", "yarn"}),
    "gemma3": frozenset({"default", "linear"}),
    "phi3": frozenset({"default", "longrope", "su"}),
}
_THETA: Final = 10_000.0
_LOCAL: Final = frozenset({"gemma3"})  # whose blocks differ in it


@dataclass(frozen=True)
class Rotation:
    """What a GGUF says of the rotary embedding; keys without the architecture."""

    metadata: Metadata
    factors: Mapping[str, list[float]] = field(default_factory=dict[str, list[float]])


def rotation(architecture: str, config: Config) -> Rotation:
    """Return the rotary embedding of a model.

    Raises:
        ConvertError: A scaling that is not known for this architecture, or lacks a number.
    """
    rope = _of_full_attention(architecture, config)
    if rope.kind not in _KINDS[architecture]:
        allowed = ", ".join(sorted(_KINDS[architecture]))
        raise ConvertError(
            f"expected a RoPE scaling of {allowed} for {architecture}, found {rope.kind[:64]!r}"
        )
    if architecture == "phi3":
        return _phi3(config, rope)
    if _share(config, rope) != 1:
        raise ConvertError(
            f"expected RoPE over whole heads for {architecture}, found a partial_rotary_factor"
        )
    metadata: Metadata = {"rope.freq_base": rope.rope_theta or config.rope_theta or _THETA}
    if architecture in _LOCAL:
        metadata["rope.freq_base_swa"] = _local_theta(config)
    if rope.kind in {"linear", "yarn"}:
        metadata["rope.scaling.type"] = rope.kind
        metadata["rope.scaling.factor"] = _needed(rope.factor, "factor")
    if rope.kind == "yarn":
        metadata |= _yarn(config, rope)
    factors = {"rope_freqs.weight": _llama3(config, rope)} if rope.kind == "llama3" else {}
    return Rotation(metadata, factors)


def _of_full_attention(architecture: str, config: Config) -> Rope:
    given = config.rope_parameters or config.rope_scaling or Rope()
    nested = given.full_attention is not None or given.sliding_attention is not None
    if nested and architecture not in _LOCAL:
        raise ConvertError(f"expected one RoPE for all blocks of {architecture}, found several")
    rope = given.full_attention or given
    if rope.full_attention or (nested and rope.sliding_attention and rope is not given):
        raise ConvertError("expected RoPE parameters one level deep, found them nested further")
    return rope


def _local_theta(config: Config) -> float:
    local = (config.rope_parameters or Rope()).sliding_attention
    if local is None:
        return config.rope_local_base_freq or _THETA
    if local.kind != "default":
        raise ConvertError(
            f"expected no RoPE scaling in blocks with a window, found {local.kind[:64]!r}"
        )
    return _needed(local.rope_theta, "rope_theta")


def _share(config: Config, rope: Rope) -> float:
    """How much of a head is turned."""
    return rope.partial_rotary_factor or config.partial_rotary_factor or 1.0


def _yarn(config: Config, rope: Rope) -> Metadata:
    original = rope.original_max_position_embeddings or config.original_max_position_embeddings
    optional = {
        "rope.scaling.yarn_attn_factor": rope.attention_factor,
        "rope.scaling.yarn_beta_fast": rope.beta_fast,
        "rope.scaling.yarn_beta_slow": rope.beta_slow,
    }
    return {
        "rope.scaling.original_context_length": _needed(
            original, "original_max_position_embeddings"
        ),
        **{key: value for key, value in optional.items() if value is not None},
    }


def _llama3(config: Config, rope: Rope) -> list[float]:
    """Return what each frequency is divided by, as transformers' `_compute_llama3_parameters`."""
    factor = _needed(rope.factor, "factor")
    low = _needed(rope.low_freq_factor, "low_freq_factor")
    high = _needed(rope.high_freq_factor, "high_freq_factor")
    original = _needed(rope.original_max_position_embeddings, "original_max_position_embeddings")
    if not low < high:
        raise ConvertError(f"expected a high_freq_factor above {low}, found {high}")
    theta = rope.rope_theta or config.rope_theta or _THETA
    factors: list[float] = []
    for dimension in range(0, config.head_size, 2):
        wavelength = 2 * math.pi * theta ** (dimension / config.head_size)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _phi3(config: Config, rope: Rope) -> Rotation:
    turned = int(_share(config, rope) * config.hidden_size) // config.num_attention_heads
    original = (
        rope.original_max_position_embeddings
        or config.original_max_position_embeddings
        or config.max_position_embeddings
    )
    metadata: Metadata = {
        "rope.scaling.original_context_length": original,
        "rope.dimension_count": turned,
        "rope.freq_base": rope.rope_theta or config.rope_theta or _THETA,
    }
    if rope.kind == "default":
        return Rotation(metadata)
    ratio = config.max_position_embeddings / original
    if rope.attention_factor is not None or (rope.factor or ratio) != ratio:
        raise ConvertError(
            f"expected longrope with a factor of {ratio:g} (as contexts are), found another"
        )
    long = rope.long_factor or []
    short = rope.short_factor or []
    if not len(long) == len(short) == turned // 2:
        raise ConvertError(
            f"expected {turned // 2} long and short factors of RoPE,"
            f" found {len(long)} and {len(short)}"
        )
    metadata["rope.scaling.attn_factor"] = _attention_factor(
        config.max_position_embeddings, original
    )
    return Rotation(
        metadata, {"rope_factors_long.weight": long, "rope_factors_short.weight": short}
    )


def _attention_factor(context: int, original: int) -> float:
    if original == 1 or context <= original:
        return 1.0
    return math.sqrt(1 + math.log(context / original) / math.log(original))


def _needed(value: float | None, name: str) -> float:
    if value is None:
        raise ConvertError(f"expected {name} with this RoPE scaling, found none")
    return value
