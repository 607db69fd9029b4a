"""Which models are converted: what would change the arithmetic and is not known here is refused.

Never passed over: another architecture, experts, another activation, another order of windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from sprat_controller.publisher.convert.config import (
    GELU,
    Config,
    Gemma3Config,
    Phi3Config,
    Quantization,
    Qwen3Config,
)
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.files import MAX_CONFIG_BYTES, read_json

_SILU: Final = "silu"

# By the name in `architectures`: what Sprat calls it, and how its config is read.
_KNOWN: Final[Mapping[str, tuple[str, type[Config]]]] = {
    "LlamaForCausalLM": ("llama", Config),
    "Qwen3ForCausalLM": ("qwen3", Qwen3Config),
    "Gemma3ForCausalLM": ("gemma3", Gemma3Config),
    "Phi3ForCausalLM": ("phi3", Phi3Config),
}
_REFUSED: Final[Mapping[str, str]] = {
    "BitNetForCausalLM": (
        "llama.cpp has no graph for microsoft/bitnet-b1.58-2B-4T (its squared ReLU), and another"
        " name would make it compute something else"
    ),
    "BitnetForCausalLM": "Sprat does not run the older BitNet architecture of its own",
    "Gemma3ForConditionalGeneration": "it also takes images; convert its text model alone",
}


class _Names(Struct):
    """The first look at a config: which model it is."""

    architectures: list[str]


def read_config(folder: Path) -> tuple[str, Config]:
    """Return the architecture, as a GGUF calls it, and the config of a model folder.

    Raises:
        ConvertError: There is none, or it is of a model that is not converted here.
    """
    path = folder / "config.json"
    names = read_json(path, _Names, MAX_CONFIG_BYTES)
    if names is None:
        raise ConvertError(f"expected a model folder with a config.json, found none in {folder}")
    found = ", ".join(names.architectures)[:200]
    if len(names.architectures) != 1 or names.architectures[0] not in _KNOWN:
        reason = _REFUSED.get(found, f"it is not one of {', '.join(_KNOWN)}")
        raise ConvertError(f"cannot convert the architecture {found or 'without a name'}: {reason}")
    if (folder / "modules.json").exists():
        raise ConvertError("expected a model that writes, found one that embeds (modules.json)")
    architecture, shape = _KNOWN[names.architectures[0]]
    config = read_json(path, shape, MAX_CONFIG_BYTES)
    if config is None:
        raise ConvertError("expected config.json to stay, found it gone")
    _check(architecture, config)
    return architecture, config


def _check(architecture: str, config: Config) -> None:
    """Refuse what the graph of this architecture does not compute."""
    fault = (
        _fault_of_kind(config)
        or _fault_of_layers(architecture, config)
        or _fault_of_bitnet(config)
        or (_fault_of_gemma3(config) if architecture == "gemma3" else None)
        or _fault_of_heads(architecture, config)
    )
    if fault:
        raise ConvertError(f"cannot convert this {architecture} model: {fault}")


def _fault_of_kind(config: Config) -> str | None:
    experts = (config.num_experts, config.num_local_experts, config.n_routed_experts)
    if any(experts):
        return "expected a dense one, found a mixture of experts"
    if config.text_config or config.vision_config or config.audio_config:
        return "expected a model of text alone, found a multimodal one"
    if config.is_causal is False or config.use_bidirectional_attention:
        return "expected causal attention, found one that looks ahead"
    return None


def _fault_of_layers(architecture: str, config: Config) -> str | None:
    is_gemma, is_llama = architecture == "gemma3", architecture == "llama"
    wanted = GELU if is_gemma else _SILU
    activation = config.hidden_activation or config.hidden_act or wanted
    method = (config.quantization_config or Quantization()).quant_method
    others = set(config.layer_types or ()) - {"full_attention"}
    checks = (
        (activation != wanted, f"expected the activation {wanted}, found {activation[:64]!r}"),
        (
            (config.attention_bias or config.mlp_bias) and not is_llama,
            "expected layers without biases, found attention_bias or mlp_bias",
        ),
        (
            config.use_sliding_window,
            "expected attention to the whole context, found use_sliding_window",
        ),
        (
            config.attn_logit_softcapping is not None,
            "expected no attn_logit_softcapping, found one",
        ),
        (
            config.final_logit_softcapping is not None and not is_gemma,
            "expected no final_logit_softcapping, found one",
        ),
        (
            others and not is_gemma,
            "expected layer_types of full_attention alone, found others",
        ),
        (
            method is not None and not (method == "bitnet" and is_llama),
            f"expected unquantized weights, found quant_method {str(method)[:64]!r}",
        ),
    )
    return next((fault for is_wrong, fault in checks if is_wrong), None)


def _fault_of_bitnet(config: Config) -> str | None:
    """Of transformers' two ternary layers, one multiplies by the scale where the other divides."""
    found = config.quantization_config
    if found is None:
        return None
    if found.linear_class not in {None, "bitlinear"} or found.use_rms_norm:
        return f"expected BitNet's linear_class bitlinear, found {str(found.linear_class)[:64]!r}"
    return None


_PATTERN: Final = 6  # every sixth block of gemma 3 looks at the whole context
_BLOCKS_27B: Final = 62


def _fault_of_gemma3(config: Config) -> str | None:
    pattern = config.sliding_window_pattern or config.old_pattern or _PATTERN
    if pattern != _PATTERN:
        return f"expected a sliding_window_pattern of {_PATTERN}, found {pattern}"
    wanted = [
        "sliding_attention" if (block + 1) % _PATTERN else "full_attention"
        for block in range(config.num_hidden_layers)
    ]
    if config.layer_types is not None and config.layer_types != wanted:
        return "expected every sixth of layer_types to be full_attention, found another order"
    share = config.hidden_size // config.num_attention_heads
    scale = share if config.num_hidden_layers == _BLOCKS_27B else config.head_size
    if config.query_pre_attn_scalar != scale:
        return f"expected a query_pre_attn_scalar of {scale}, found {config.query_pre_attn_scalar}"
    return None


def _fault_of_heads(architecture: str, config: Config) -> str | None:
    if config.head_dim is None and config.hidden_size % config.num_attention_heads:
        return (
            f"expected {config.num_attention_heads} heads to share the embedding equally,"
            f" found {config.hidden_size} wide"
        )
    if config.head_size % 2:
        return f"expected heads of an even width, found {config.head_size}"
    if architecture == "phi3" and (
        config.head_size * config.num_attention_heads != config.hidden_size
    ):
        return f"expected heads that share the embedding, found a head_dim of {config.head_dim}"
    return None
