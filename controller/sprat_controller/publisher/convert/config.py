"""`config.json`: the shape of a model, with transformers' defaults for what may be left out.

What would change the arithmetic and is not known here is refused, never passed over: another
architecture, experts, another activation, another scaling of RoPE.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.files import MAX_CONFIG_BYTES, read_json

MAX_BLOCKS: Final = 512
MAX_VOCABULARY: Final = 1 << 20

Count = Annotated[int, Meta(ge=1, le=1 << 22)]
Number = Annotated[float, Meta(gt=0, le=1e30)]
Numbers = Annotated[list[Number], Meta(max_length=1 << 12)]
TokenIds = int | list[int] | None


class Rope(Struct, kw_only=True, forbid_unknown_fields=True):
    """`rope_scaling`, or `rope_parameters` as transformers 5 writes it."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: Number | None = None
    factor: Number | None = None
    low_freq_factor: Number | None = None
    high_freq_factor: Number | None = None
    original_max_position_embeddings: Count | None = None
    long_factor: Numbers | None = None
    short_factor: Numbers | None = None
    partial_rotary_factor: Number | None = None
    attention_factor: Number | None = None
    beta_fast: Number | None = None
    beta_slow: Number | None = None
    finetuned: bool | None = None  # said by some; nothing reads it
    full_attention: Rope | None = None
    sliding_attention: Rope | None = None

    @property
    def kind(self) -> str:
        """The name of the scaling, or `default`."""
        return self.rope_type or self.type or "default"


class Quantization(Struct, kw_only=True):
    """`quantization_config`, of which only BitNet's plain linear layers are known here."""

    quant_method: str | None = None
    linear_class: str | None = None
    use_rms_norm: bool | None = None


class Config(Struct, kw_only=True):
    """What a conversion reads of `config.json`; other keys are about training or other programs."""

    architectures: Annotated[list[str], Meta(min_length=1)]
    hidden_size: Annotated[int, Meta(ge=1, le=1 << 17)]
    intermediate_size: Annotated[int, Meta(ge=1, le=1 << 20)]
    num_hidden_layers: Annotated[int, Meta(ge=1, le=MAX_BLOCKS)]
    num_attention_heads: Annotated[int, Meta(ge=1, le=1 << 12)]
    num_key_value_heads: Annotated[int, Meta(ge=1, le=1 << 12)] | None = None
    head_dim: Annotated[int, Meta(ge=1, le=1 << 12)] | None = None
    max_position_embeddings: Count
    rms_norm_eps: Annotated[float, Meta(gt=0, lt=1)]
    vocab_size: Annotated[int, Meta(ge=1, le=MAX_VOCABULARY)]
    tie_word_embeddings: bool | None = None
    hidden_act: str | None = None
    hidden_activation: str | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None

    rope_theta: Number | None = None
    rope_scaling: Rope | None = None
    rope_parameters: Rope | None = None
    rope_local_base_freq: Number | None = None
    original_max_position_embeddings: Count | None = None
    partial_rotary_factor: Number | None = None

    sliding_window: Count | None = None
    use_sliding_window: bool | None = None
    sliding_window_pattern: int | None = None
    old_pattern: int | None = field(default=None, name="_sliding_window_pattern")
    layer_types: Annotated[list[str], Meta(max_length=MAX_BLOCKS)] | None = None
    query_pre_attn_scalar: Number | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: Number | None = None
    use_bidirectional_attention: bool | None = None
    is_causal: bool | None = None

    quantization_config: Quantization | None = None
    bos_token_id: TokenIds = None
    eos_token_id: TokenIds = None
    unk_token_id: TokenIds = None
    sep_token_id: TokenIds = None
    pad_token_id: TokenIds = None
    cls_token_id: TokenIds = None
    mask_token_id: TokenIds = None

    num_experts: Any = None
    num_local_experts: Any = None
    n_routed_experts: Any = None
    text_config: Any = None
    vision_config: Any = None
    audio_config: Any = None

    @property
    def kv_heads(self) -> int:
        """Key-value heads: as many as heads unless said otherwise."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Width of one head: an equal share of the embedding unless said otherwise."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


_SILU: Final = "silu"
_GELU: Final = "gelu_pytorch_tanh"


class _Gemma3(Config, kw_only=True):
    num_key_value_heads: Annotated[int, Meta(ge=1, le=1 << 12)] | None = 4
    head_dim: Annotated[int, Meta(ge=1, le=1 << 12)] | None = 256
    tie_word_embeddings: bool | None = True
    hidden_activation: str | None = _GELU
    rope_theta: Number | None = 1_000_000.0
    rope_local_base_freq: Number | None = 10_000.0
    query_pre_attn_scalar: Number | None = 256
    sliding_window: Count | None = 4096


class _Qwen3(Config, kw_only=True):
    head_dim: Annotated[int, Meta(ge=1, le=1 << 12)] | None = 128


class _Phi3(Config, kw_only=True):
    original_max_position_embeddings: Count | None = 4096


# By the name in `architectures`: what Sprat calls it, and how its config is read.
_KNOWN: Final[Mapping[str, tuple[str, type[Config]]]] = {
    "LlamaForCausalLM": ("llama", Config),
    "Qwen3ForCausalLM": ("qwen3", _Qwen3),
    "Gemma3ForCausalLM": ("gemma3", _Gemma3),
    "Phi3ForCausalLM": ("phi3", _Phi3),
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
    wanted = _GELU if is_gemma else _SILU
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
