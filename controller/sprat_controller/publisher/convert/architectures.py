"""What becomes of a model: its metadata, and each tensor under its name in a GGUF.

The names and the changes of weights are those of llama.cpp's own converter (`conversion/`, as in
llama-cpp-python 0.3.36), which the tests compare with, tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sprat_controller.publisher.convert.config import Config
from sprat_controller.publisher.convert.metadata import Metadata
from sprat_controller.publisher.convert.rope import rotation

EMBEDDING: Final = "model.embed_tokens.weight"
HEAD: Final = "lm_head.weight"


@dataclass(frozen=True)
class Weight:
    """One tensor: what it is called, and what happens to it on the way.

    Attributes:
        name: In the GGUF.
        source: In the folder.
        shape: In the folder, row by row.
        heads: More than 0 where the two halves of each of so many heads are interleaved, because
            llama.cpp turns neighbouring pairs in this architecture.
        shift: What is added to each number.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    heads: int = 0
    shift: float = 0.0


@dataclass(frozen=True)
class Plan:
    """All that a GGUF of a model has, but for its vocabulary."""

    metadata: Metadata
    weights: tuple[Weight, ...]
    factors: Mapping[str, list[float]]  # small tensors that are computed


def plan(architecture: str, config: Config) -> Plan:
    """Return what becomes of a model.

    Raises:
        ConvertError: Its rotary embedding is not known.
    """
    turned = rotation(architecture, config)
    metadata = _shape(config) | _special(architecture, config) | turned.metadata
    return Plan(
        {f"{architecture}.{key}": value for key, value in metadata.items()},
        tuple(_weights(architecture, config)),
        turned.factors,
    )


def _shape(config: Config) -> Metadata:
    return {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }


def _special(architecture: str, config: Config) -> Metadata:
    if architecture == "phi3":
        return {"attention.sliding_window": config.sliding_window or 0}
    lengths: Metadata = {
        "attention.key_length": config.head_size,
        "attention.value_length": config.head_size,
    }
    if architecture == "llama":
        return lengths | {
            "vocab_size": config.vocab_size,
            "rope.dimension_count": config.head_size,
        }
    if architecture == "gemma3":
        lengths["attention.sliding_window"] = config.sliding_window or 0
        if config.final_logit_softcapping is not None:
            lengths["final_logit_softcapping"] = config.final_logit_softcapping
    return lengths


def _weights(architecture: str, config: Config) -> Iterator[Weight]:
    # Gemma's norms multiply by 1 + weight.
    shift = 1.0 if architecture == "gemma3" else 0.0
    width = config.hidden_size
    yield Weight("token_embd.weight", EMBEDDING, (config.vocab_size, width))
    for block in range(config.num_hidden_layers):
        inner, outer = f"blk.{block}.", f"model.layers.{block}."
        for norm in _norms(architecture, config):
            yield Weight(inner + norm.name, outer + norm.source, norm.shape, shift=shift)
        matrices = _fused(config) if architecture == "phi3" else _parted(architecture, config)
        for one in matrices:
            yield Weight(inner + one.name, outer + one.source, one.shape, one.heads)
    yield Weight("output_norm.weight", "model.norm.weight", (width,), shift=shift)
    if not config.tie_word_embeddings:
        yield Weight("output.weight", HEAD, (config.vocab_size, width))


def _norms(architecture: str, config: Config) -> Iterator[Weight]:
    width = (config.hidden_size,)
    yield Weight("attn_norm.weight", "input_layernorm.weight", width)
    if architecture == "gemma3":
        yield Weight("post_attention_norm.weight", "post_attention_layernorm.weight", width)
        yield Weight("ffn_norm.weight", "pre_feedforward_layernorm.weight", width)
        yield Weight("post_ffw_norm.weight", "post_feedforward_layernorm.weight", width)
    else:
        yield Weight("ffn_norm.weight", "post_attention_layernorm.weight", width)
    if architecture in {"qwen3", "gemma3"}:
        yield Weight("attn_q_norm.weight", "self_attn.q_norm.weight", (config.head_size,))
        yield Weight("attn_k_norm.weight", "self_attn.k_norm.weight", (config.head_size,))


def _parted(architecture: str, config: Config) -> Iterator[Weight]:
    interleaved = architecture == "llama"
    width, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_size
    keys = config.kv_heads * config.head_size
    heads = config.num_attention_heads if interleaved else 0
    kv_heads = config.kv_heads if interleaved else 0
    attention = (
        Weight("attn_q", "self_attn.q_proj", (queries, width), heads),
        Weight("attn_k", "self_attn.k_proj", (keys, width), kv_heads),
        Weight("attn_v", "self_attn.v_proj", (keys, width)),
        Weight("attn_output", "self_attn.o_proj", (width, queries)),
    )
    forward = (
        Weight("ffn_gate", "mlp.gate_proj", (inner, width)),
        Weight("ffn_up", "mlp.up_proj", (inner, width)),
        Weight("ffn_down", "mlp.down_proj", (width, inner)),
    )
    for layers, has_bias in (
        (attention, config.attention_bias),
        (forward, config.mlp_bias),
    ):
        for one in layers:
            name, source = one.name, one.source
            yield Weight(f"{name}.weight", f"{source}.weight", one.shape, one.heads)
            if has_bias:
                yield Weight(f"{name}.bias", f"{source}.bias", one.shape[:1], one.heads)


def _fused(config: Config) -> Iterator[Weight]:
    width, inner = config.hidden_size, config.intermediate_size
    fused = (config.num_attention_heads + 2 * config.kv_heads) * config.head_size
    yield Weight("attn_qkv.weight", "self_attn.qkv_proj.weight", (fused, width))
    yield Weight("attn_output.weight", "self_attn.o_proj.weight", (width, width))
    yield Weight("ffn_up.weight", "mlp.gate_up_proj.weight", (2 * inner, width))
    yield Weight("ffn_down.weight", "mlp.down_proj.weight", (width, inner))
