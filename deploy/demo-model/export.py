"""Writes what was trained as GGUF, as a LoRA in GGUF, and in Hugging Face's format."""

# gguf declares its writer's numpy arrays without element types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizer import CUT, END, PRE_TOKENIZER, SPECIALS, START, TEMPLATE, Tokenizer

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]

ARCHITECTURE: Final = "qwen3"
LICENCE: Final = "Apache-2.0"
_TOP: Final = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
_IN_BLOCK: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Described:
    """What a file says about itself."""

    name: str
    version: str
    description: str


@dataclass(frozen=True)
class Sizes:
    """The numbers of the network that its files state."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    ffn: int
    context: int
    rope_base: float
    epsilon: float


def write_gguf(
    path: Path, weights: Weights, sizes: Sizes, tokenizer: Tokenizer, about: Described
) -> None:
    """Write a model, its matrices in F16."""
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    _describe(writer, about)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.hidden)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.ffn)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_key_length(sizes.head)
    writer.add_value_length(sizes.head)
    writer.add_rope_dimension_count(sizes.head)
    writer.add_rope_freq_base(sizes.rope_base)
    writer.add_layer_norm_rms_eps(sizes.epsilon)
    _add_vocabulary(writer, tokenizer)
    for name, values in weights.items():
        kind = np.float16 if values.ndim > 1 else np.float32
        writer.add_tensor(f"{gguf_name(name)}.weight", values.astype(kind))
    _finish(writer)


def write_lora(path: Path, weights: Weights, alpha: float, about: Described) -> None:
    """Write an adapter from the factors `NAME.lora_a` and `NAME.lora_b`."""
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    _describe(writer, about)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for name, values in weights.items():
        matrix, _, factor = name.rpartition(".")
        writer.add_tensor(f"{gguf_name(matrix)}.weight.{factor}", values.astype(np.float16))
    _finish(writer)


def gguf_name(name: str) -> str:
    """Return llama.cpp's name of a parameter of Hugging Face's, both without `.weight`."""
    name = name.removesuffix(".weight")
    if name in _TOP:
        return _TOP[name]
    _, _, block, rest = name.split(".", 3)
    return f"blk.{block}.{_IN_BLOCK[rest]}"


def write_hugging_face(folder: Path, weights: Weights, sizes: Sizes, tokenizer: Tokenizer) -> None:
    """Write the model as `transformers` and converters read it."""
    folder.mkdir(parents=True, exist_ok=True)
    end = tokenizer.ids[END]
    for name, content in (
        ("config", _config(sizes, tokenizer)),
        ("generation_config", {"eos_token_id": end, "pad_token_id": end, "do_sample": False}),
        ("tokenizer", _tokenizer_json(tokenizer)),
        (
            "tokenizer_config",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": START,
                "eos_token": END,
                "pad_token": END,
                "model_max_length": sizes.context,
                "clean_up_tokenization_spaces": False,
                "chat_template": TEMPLATE,
            },
        ),
    ):
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(_safetensors(weights))


def _describe(writer: gguf.GGUFWriter, about: Described) -> None:
    writer.add_name(about.name)
    writer.add_version(about.version)
    writer.add_description(about.description)
    writer.add_license(LICENCE)


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_vocab_size(len(tokenizer.tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(list(tokenizer.tokens))
    writer.add_token_types([control if one in SPECIALS else normal for one in tokenizer.tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.ids[START])
    writer.add_eos_token_id(tokenizer.ids[END])
    writer.add_add_bos_token(True)  # noqa: FBT003 - gguf's signature
    writer.add_chat_template(TEMPLATE)


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _config(sizes: Sizes, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": len(tokenizer.tokens),
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head,
        "hidden_act": "silu",
        "max_position_embeddings": sizes.context,
        "rms_norm_eps": sizes.epsilon,
        "rope_theta": sizes.rope_base,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "dtype": "float16",
        "bos_token_id": tokenizer.ids[START],
        "eos_token_id": tokenizer.ids[END],
    }


def _tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    specials = [
        {
            "id": tokenizer.ids[one],
            "content": one,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for one in SPECIALS
    ]
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    cut = {"type": "Split", "pattern": {"Regex": CUT}, "behavior": "Isolated", "invert": False}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    start = {"SpecialToken": {"id": START, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": specials,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [cut, {**bytes_only, "use_regex": False}],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, text],
            "pair": [start, text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                START: {"id": START, "ids": [tokenizer.ids[START]], "tokens": [START]}
            },
        },
        "decoder": {**bytes_only, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": tokenizer.ids,
            "merges": [list(pair) for pair in tokenizer.merges],
        },
    }


def _safetensors(weights: Weights) -> bytes:
    """Return a file of https://github.com/huggingface/safetensors#format.

    Matrices are in half precision, vectors in single precision, as in the GGUF.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in weights.items():
        kind, name_of_kind = ("<f2", "F16") if values.ndim > 1 else ("<f4", "F32")
        part = values.astype(kind).tobytes()
        offsets = [len(data), len(data) + len(part)]
        header[name] = {"dtype": name_of_kind, "shape": list(values.shape), "data_offsets": offsets}
        data += part
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    return struct.pack("<Q", len(described)) + described + data
