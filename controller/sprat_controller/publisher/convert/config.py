"""`config.json`: the shape of a model, with transformers' defaults for what may be left out."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

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


GELU: Final = "gelu_pytorch_tanh"


class Gemma3Config(Config, kw_only=True):
    """Gemma 3's, text alone."""

    num_key_value_heads: Annotated[int, Meta(ge=1, le=1 << 12)] | None = 4
    head_dim: Annotated[int, Meta(ge=1, le=1 << 12)] | None = 256
    tie_word_embeddings: bool | None = True
    hidden_activation: str | None = GELU
    rope_theta: Number | None = 1_000_000.0
    rope_local_base_freq: Number | None = 10_000.0
    query_pre_attn_scalar: Number | None = 256
    sliding_window: Count | None = 4096


class Qwen3Config(Config, kw_only=True):
    """Qwen 3's."""

    head_dim: Annotated[int, Meta(ge=1, le=1 << 12)] | None = 128


class Phi3Config(Config, kw_only=True):
    """Phi 3's and phi 4's."""

    original_max_position_embeddings: Count | None = 4096
