"""Model files that cost what real ones cost, with no meaning in them: GGUF 3, written in one go.

A model has no tokenizer, the architecture `llama`, and all its matrices of one type.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sprat_proto.tensor_types import TENSOR_TYPES

Value: TypeAlias = int | float | str

VOCABULARY: Final = 256
CONTEXT: Final = 4096
_ALIGNMENT: Final = 32
_CHUNK_BLOCKS: Final = 1 << 12
_UINT32, _FLOAT32, _STRING = 4, 6, 8  # types of GGUF's metadata
_NUMBERS: Final = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
# Where the half-precision scales of a block are; what else is in it may be anything.
_SCALES: Final = {
    "Q8_0": (0,),
    "Q5_1": (0, 2),
    "Q5_0": (0,),
    "Q4_0": (0,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}
KINDS: Final = ("F16", *_SCALES)


@dataclass(frozen=True)
class Shape:
    """What the cost of a model follows from."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int

    @property
    def layer_weights(self) -> int:
        """How many weights the matrices of one layer have."""
        return sum(rows * columns for _, rows, columns in self.matrices())

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, rows and columns of a layer's matrices."""
        queries, values = self.heads * self.head, self.kv_heads * self.head
        yield "attn_q", queries, self.width
        yield "attn_k", values, self.width
        yield "attn_v", values, self.width
        yield "attn_output", self.width, queries
        yield "ffn_gate", self.inner, self.width
        yield "ffn_up", self.inner, self.width
        yield "ffn_down", self.width, self.inner

    def metadata(self) -> dict[str, Value]:
        """Return what the file says of the model."""
        return {
            "general.architecture": "llama",
            "llama.vocab_size": VOCABULARY,
            "llama.context_length": CONTEXT,
            "llama.embedding_length": self.width,
            "llama.block_count": self.layers,
            "llama.feed_forward_length": self.inner,
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.kv_heads,
            "llama.attention.key_length": self.head,
            "llama.attention.value_length": self.head,
            "llama.attention.layer_norm_rms_epsilon": 1e-6,
            "llama.rope.dimension_count": self.head,
            "tokenizer.ggml.model": "none",
        }


@dataclass(frozen=True)
class _Tensor:
    name: str
    kind: str
    dims: tuple[int, ...]  # columns first, as GGUF has them

    @property
    def size(self) -> int:
        return bytes_of(self.kind, int(np.prod(self.dims)))

    @property
    def room(self) -> int:
        return -(-self.size // _ALIGNMENT) * _ALIGNMENT


def bytes_of(kind: str, weights: int) -> int:
    """Return what so many weights of a type take, a whole number of blocks."""
    _, length, size = TENSOR_TYPES[_NUMBERS[kind]]
    return weights // length * size


def write(file: BinaryIO, kind: str, shape: Shape) -> None:
    """Write a model.

    Args:
        file: Written from where it is.
        kind: Of its matrices: one of `KINDS`.
        shape: Its rows are whole blocks of the type.
    """
    tensors = list(_tensors(kind, shape))
    metadata = shape.metadata()
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    head += [_string(key) + _value(value) for key, value in metadata.items()]
    offset = 0
    for tensor in tensors:
        dims = struct.pack(f"<I{len(tensor.dims)}Q", len(tensor.dims), *tensor.dims)
        place = struct.pack("<IQ", _NUMBERS[tensor.kind], offset)
        head.append(_string(tensor.name) + dims + place)
        offset += tensor.room
    text = b"".join(head)
    file.write(text + bytes(-len(text) % _ALIGNMENT))
    ones = np.ones(1 << 12, np.float32).view(np.uint8)
    fill = {"F32": ones, "F16": _blocks("F16"), kind: _blocks(kind)}
    for tensor in tensors:
        _write(file, fill[tensor.kind], tensor)


def _tensors(kind: str, shape: Shape) -> Iterator[_Tensor]:
    yield _Tensor("token_embd.weight", "F16", (shape.width, VOCABULARY))
    yield _Tensor("output_norm.weight", "F32", (shape.width,))
    for layer in range(shape.layers):
        for name in ("attn_norm", "ffn_norm"):
            yield _Tensor(f"blk.{layer}.{name}.weight", "F32", (shape.width,))
        for name, rows, columns in shape.matrices():
            yield _Tensor(f"blk.{layer}.{name}.weight", kind, (columns, rows))


def _write(file: BinaryIO, fill: NDArray[np.uint8], tensor: _Tensor) -> None:
    left = tensor.size
    while left > 0:
        file.write(fill[:left].data)
        left -= min(left, len(fill))
    file.write(bytes(tensor.room - tensor.size))


def _blocks(kind: str) -> NDArray[np.uint8]:
    """Return blocks of a type: any weights, with scales that keep activations finite."""
    random = np.random.default_rng(0)
    _, length, size = TENSOR_TYPES[_NUMBERS[kind]]
    if length == 1:
        values = random.standard_normal(_CHUNK_BLOCKS * 32, np.float32) * 0.02
        return values.astype(np.float16).view(np.uint8)
    blocks = random.integers(0, 256, (_CHUNK_BLOCKS, size), np.uint8)
    for at in _SCALES[kind]:
        blocks[:, at : at + 2] = np.full(1, 1e-3, np.float16).view(np.uint8)
    return blocks.reshape(-1)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    match value:
        case int():
            return struct.pack("<II", _UINT32, value)
        case float():
            return struct.pack("<If", _FLOAT32, value)
        case str():
            return struct.pack("<I", _STRING) + _string(value)
