"""Variants of two real models by their shapes: what their manifests would say, without a file.

Which tensor gets which type is as llama.cpp's quantizer does it for models with tied embeddings.
The evaluations are made up, in the order in which such variants usually lose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sprat_proto.fit import Candidate
from sprat_proto.manifest import Evaluation, Facts
from sprat_proto.tensor_types import TENSOR_TYPES
from sprat_proto.trust import HARDWARE_IDS

_BLOCKS: Final = {name.lower(): (weights, size) for name, weights, size in TENSOR_TYPES.values()}
# By variant: the type of most matrices, of a seventh of them, of the embeddings, and the loss.
FORMS: Final = {
    "f16": ("f16", "f16", "f16", 0),
    "q8_0": ("q8_0", "q8_0", "q8_0", 300),
    "q5_1": ("q5_1", "q5_1", "q6_k", 9_000),
    "q4_k_m": ("q4_k", "q6_k", "q6_k", 21_000),
    "q4_0": ("q4_0", "q4_0", "q6_k", 48_000),
}


@dataclass(frozen=True)
class Shape:
    """A decoder with tied embeddings, grouped queries and a gated feed-forward part."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_length: int
    inner: int
    vocabulary: int
    context_length: int
    licence: str

    @property
    def matrices(self) -> int:
        """Weights in matrices, without the embeddings."""
        queries, keys = self.heads * self.head_length, self.kv_heads * self.head_length
        attention = self.width * (2 * queries + 2 * keys)
        return self.layers * (attention + 3 * self.width * self.inner)

    @property
    def embeddings(self) -> int:
        """Weights of the embeddings, which are also the output."""
        return self.width * self.vocabulary


QWEN3_06B: Final = Shape(
    *("qwen3-0.6b", 28, 1024, 16, 8, 128, 3072, 151_936, 40_960), licence="apache-2.0"
)
PHI4_MINI: Final = Shape(
    *("phi-4-mini", 32, 3072, 24, 8, 128, 8192, 200_064, 131_072), licence="mit"
)


def variants(shape: Shape, *, is_evaluated: bool = True) -> list[Candidate]:
    """Return a release of the model: one variant for each of `FORMS`."""
    return [_variant(shape, name, is_evaluated=is_evaluated) for name in FORMS]


def facts(shape: Shape, name: str) -> Facts:
    """Return what would be read from the file of a variant."""
    most, some, embeddings, _ = FORMS[name]
    vectors = shape.width * (2 * shape.layers + 1)
    tensor_bytes: dict[str, int] = {}
    for kind, weights in (
        ("f32", vectors),
        (embeddings, shape.embeddings),
        (some, shape.matrices // 7),
        (most, shape.matrices - shape.matrices // 7),
    ):
        tensor_bytes[kind] = tensor_bytes.get(kind, 0) + _size(kind, weights)
    return Facts(
        architecture="llama",
        quantization=name,
        parameters=shape.matrices + shape.embeddings + vectors,
        weights_bytes=sum(tensor_bytes.values()),
        layers=shape.layers,
        embedding_length=shape.width,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        key_length=shape.head_length,
        value_length=shape.head_length,
        vocabulary=shape.vocabulary,
        context_length=shape.context_length,
        licence=shape.licence,
        tensor_bytes=tensor_bytes,
        bytes_per_token=tensor_bytes,
    )


def _variant(shape: Shape, name: str, *, is_evaluated: bool) -> Candidate:
    read = facts(shape, name)
    loss = FORMS[name][3]
    evaluation = Evaluation(
        reference="f16",
        text_sha256="7" * 64,
        tokens=100_000,
        perplexity_milli=12_000,
        kl_nano=loss * 1000,
        same_top_ppm=1_000_000 - 4 * loss,
        loss_ppm=loss,
    )
    return Candidate(
        variant=name,
        digest=name.encode().hex().ljust(64, "0"),
        runtime="llama.cpp",
        hardware_ids=HARDWARE_IDS,
        disk_needed=read.weights_bytes,
        facts=read,
        evaluation=evaluation if is_evaluated else None,
    )


def _size(kind: str, weights: int) -> int:
    block, size = _BLOCKS[kind]
    return -(-weights // block) * size
