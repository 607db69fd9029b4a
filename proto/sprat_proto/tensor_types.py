"""The tensor types of ggml 0.25: how many weights a block has, and how many bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# ggml's tensor types: name, weights in a block, bytes of a block.
TENSOR_TYPES: Final[Mapping[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
}
_BLOCKS: Final = {name.lower(): (weights, size) for name, weights, size in TENSOR_TYPES.values()}


def weights_of(kind: str, size: int) -> int:
    """Return how many weights `size` bytes of a type (as `q4_0`) are; 0 if it is not known."""
    weights, block = _BLOCKS.get(kind, (0, 1))
    return size * weights // block
