"""How large a variant will be before it is made: the type that llama.cpp gives each tensor. Pure.

A variant is a mix. Vectors stay F32; the table that makes logits is kept better than the rest (Q6_K
where that is Q4_0 or Q5_1); Q4_K_M keeps the values of attention and the second half of the inner
layers better in every block that matters most; and a type whose blocks do not fit a row gives way
to a shorter one. This restates the rule of llama.cpp's quantizer (src/llama-quant.cpp as of
llama-cpp-python 0.3.36) without importance matrices, for models without experts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from sprat_proto.tensor_types import TENSOR_TYPES

Dims: TypeAlias = tuple[int, ...]  # the length of a row first, as GGUF has it

# Variant: the type of most of its matrices.
BASES: Final[Mapping[str, str]] = {
    "f16": "F16",
    "q8_0": "Q8_0",
    "q5_1": "Q5_1",
    "q4_k_m": "Q4_K",
    "q4_0": "Q4_0",
    "tq1_0": "TQ1_0",
    "tq2_0": "TQ2_0",
}
_BLOCKS: Final = {name: (weights, size) for name, weights, size in TENSOR_TYPES.values()}
_FALLBACKS: Final = {
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q6_K": "Q8_0",
}
_TABLE: Final = "token_embd.weight"
_HEAD: Final = "output.weight"
_BLOCK: Final = re.compile(r"blk\.([0-9]{1,4})\.(.+)\.weight")
_MIXED: Final = "q4_k_m"
_BETTER: Final = frozenset({"attn_v", "attn_qkv", "ffn_down"})


def tensor_bytes(tensors: Iterable[tuple[str, Dims]], variant: str) -> dict[str, int]:
    """Return the bytes of each tensor type, by its name in lower case, as `manifest.Facts` has it.

    Args:
        tensors: Name and dimensions of every tensor of the model, as in GGUF.
        variant: A name in `BASES`.
    """
    known = dict(tensors)
    blocks = {int(found[1]) for name in known if (found := _BLOCK.fullmatch(name))}
    sizes: dict[str, int] = {}
    for name, dims in known.items():
        kind = _type_of(name, dims, variant, len(blocks), is_tied=_HEAD not in known)
        weights, size = _BLOCKS[kind]
        count = 1
        for dim in dims:
            count *= dim
        sizes[kind.lower()] = sizes.get(kind.lower(), 0) + count // weights * size
    return dict(sorted(sizes.items()))


def _type_of(name: str, dims: Dims, variant: str, blocks: int, *, is_tied: bool) -> str:
    if len(dims) == 1:
        return "F32"
    kind = BASES[variant]
    if kind == "F16":
        return kind
    if name == _HEAD or (name == _TABLE and is_tied):
        kind = _of_head(kind, dims)
    elif name == _TABLE and kind in {"TQ1_0", "TQ2_0"}:
        kind = "Q4_K"
    elif variant == _MIXED and (found := _BLOCK.fullmatch(name)) and found[2] in _BETTER:
        kind = "Q6_K" if _has_more_bits(int(found[1]), blocks) else kind
    return _fitting(kind, dims[0])


def _of_head(kind: str, dims: Dims) -> str:
    if dims[0] % _BLOCKS[kind][0]:
        return "Q8_0"
    return kind if kind == "Q8_0" else "Q6_K"


def _has_more_bits(block: int, blocks: int) -> bool:
    """Tell whether a block is in the first or last eighth, or every third of those between."""
    eighth = blocks // 8
    return block < eighth or block >= 7 * blocks // 8 or (block - eighth) % 3 == 2  # noqa: PLR2004


def _fitting(kind: str, columns: int) -> str:
    if columns % _BLOCKS[kind][0] and kind in _FALLBACKS:
        kind = _FALLBACKS[kind]
    return "F16" if columns % _BLOCKS[kind][0] else kind
