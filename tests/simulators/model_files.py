"""Folders of models as their publishers have them: safetensors or ONNX, and what is beside it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulators import onnx_models
from simulators.onnx_models import FLOAT, FLOAT16, external, field, fields, graph, node, value

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 30,
    "max_position_embeddings": 4096,
    "sliding_window": None,
    "rope_theta": 1e6,
    "torch_dtype": "bfloat16",
}
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (30, 16),
    "model.layers.0.self_attn.q_proj.weight": (32, 16),
    "model.layers.1.self_attn.q_proj.weight": (32, 16),
    "model.norm.weight": (16,),
}
GENAI: dict[str, Any] = {
    "model": {
        "type": "qwen3",
        "context_length": 4096,
        "vocab_size": 30,
        "decoder": {
            "filename": "model.onnx",
            "hidden_size": 16,
            "head_size": 8,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_hidden_layers": 2,
            "inputs": {"past_key_names": "past_key_values.%d.key"},
        },
    },
    "search": {"temperature": 0.6, "do_sample": True},
}
CARD = "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n"
TOKENIZER = {"chat_template": "{% if tools %}{{ tools }}{% endif %}{{ messages }}"}


def with_header(header: bytes, data: int = 0, *, length: int | None = None) -> bytes:
    """Return a safetensors file with this header and `data` bytes, whatever the header says."""
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(data)


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors(
    shapes: Mapping[str, tuple[int, ...]], *, dtype: str = "BF16", size: int = 2
) -> bytes:
    """Return a file with tensors of one type of `size` bytes an element, all zero."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + size * _product(shape)
        header[name] = entry(dtype, list(shape), begin, end)
    text = json.dumps(header).encode()
    return with_header(text + b" " * (-len(text) % 8), end)


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for dimension in shape:
        product *= dimension
    return product


def write_safetensors_folder(folder: Path, config: Mapping[str, Any] | None = None) -> Path:
    """Write a model with all that is read of one."""
    (folder / "config.json").write_text(json.dumps(CONFIG | dict(config or {})))
    (folder / "model.safetensors").write_bytes(safetensors(SHAPES))
    _write_words(folder)
    return folder


def write_onnx_folder(folder: Path) -> Path:
    """Write a model with its embedding in a file of its own."""
    (folder / "genai_config.json").write_text(json.dumps(GENAI))
    (folder / "model.onnx").write_bytes(onnx_model())
    (folder / "model.onnx.data").write_bytes(bytes(30 * 16 * 2))
    _write_words(folder)
    return folder


def onnx_model(layers: int = 2) -> bytes:
    multiply = node(
        "MatMulNBits",
        ["x", "q_proj", "q_proj_scales"],
        fields((1, "K"), (3, 16)),
        fields((1, "N"), (3, 32)),
        domain="com.microsoft",
    )
    keys = [
        value(f"past_key_values.{n}.key", FLOAT, ["batch", 2, "past", 8]) for n in range(layers)
    ]
    return onnx_models.model(
        graph(
            [node("Gather", ["embedding", "ids"]), multiply],
            [
                external("embedding", FLOAT16, [30, 16], location="model.onnx.data"),
                onnx_models.tensor("q_proj", onnx_models.UINT8, [32, 1, 8], bytes(256)),
                onnx_models.tensor("q_proj_scales", FLOAT, [32], bytes(128)),
            ],
            [value("ids", onnx_models.INT64, ["batch", "tokens"]), *keys],
            [value("logits", FLOAT, ["batch", "tokens", 30])],
        ),
        (8, field(1, "com.microsoft") + field(2, 1)),
    )


def _write_words(folder: Path) -> None:
    (folder / "README.md").write_text(CARD)
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
