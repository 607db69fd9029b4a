"""GGUF headers byte by byte, right or wrong in one place."""

from __future__ import annotations

import struct
from typing import Any

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: Any) -> bytes:
    forms = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q"}
    body = text(value) if kind == STRING else struct.pack(forms[kind], value)
    return text(key) + struct.pack("<I", kind) + body


def array(key: str, kind: int, values: list[Any]) -> bytes:
    forms = {U32: "<I", I32: "<i", F32: "<f"}
    bodies = [text(v) if kind == STRING else struct.pack(forms[kind], v) for v in values]
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + b"".join(bodies)


def tensor(name: str, dims: tuple[int, ...], offset: int, kind: int = 0) -> bytes:
    sizes = struct.pack(f"<{len(dims)}Q", *dims)
    return text(name) + struct.pack("<I", len(dims)) + sizes + struct.pack("<IQ", kind, offset)


PAIRS: dict[str, bytes] = {
    "general.architecture": pair("general.architecture", STRING, "llama"),
    "block_count": pair("llama.block_count", U32, 1),
    "context_length": pair("llama.context_length", U32, 128),
    "embedding_length": pair("llama.embedding_length", U32, 32),
    "feed_forward_length": pair("llama.feed_forward_length", U32, 64),
    "head_count": pair("llama.attention.head_count", U32, 4),
    "head_count_kv": pair("llama.attention.head_count_kv", U32, 2),
    "epsilon": pair("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
    "model": pair("tokenizer.ggml.model", STRING, "gpt2"),
    "tokens": array("tokenizer.ggml.tokens", STRING, ["a", "b", "<end>"]),
    "types": array("tokenizer.ggml.token_type", I32, [1, 1, 3]),
    "eos": pair("tokenizer.ggml.eos_token_id", U32, 2),
    "add_bos": pair("tokenizer.ggml.add_bos_token", BOOL, 0),
}
# 32 x 3 and 32 numbers of 4 bytes, each a multiple of 32.
TENSORS: list[bytes] = [
    tensor("token_embd.weight", (32, 3), 0),
    tensor("output_norm.weight", (32,), 384),
    tensor("blk.0.attn_norm.weight", (32,), 512),
]
DATA = 640


def build(
    pairs: dict[str, bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    keys: int | None = None,
    count: int | None = None,
    data: int = DATA,
) -> bytes:
    pairs = {**PAIRS, **(pairs or {})}
    tensors = TENSORS if tensors is None else tensors
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if count is None else count,
        len(pairs) if keys is None else keys,
    )
    head += b"".join(pairs.values()) + b"".join(tensors)
    return head + bytes(-len(head) % 32 + data)
