"""Whether a model's weights are ternary, so that `tq1_0` and `tq2_0` lose nothing of them.

Both store 256 weights as -s, 0 or s with one scale `s` in F16. Rounded to that, weights of any
other model make no sense. Needs numpy; run in a child.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sprat_proto import gguf

BLOCK: Final = 256
_READ: Final = 1 << 20  # weights at once
_F16_ERROR: Final = 2.0**-10  # of the scale: twice what rounding to F16 costs
_DTYPES: Final = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def fault_of(path: Path) -> str | None:
    """Return what is not ternary in an unquantized model, as one sentence, or None."""
    file = gguf.check(path)
    for tensor in file.tensors:
        if not _is_stored_ternary(tensor):
            continue
        if tensor.dims[0] % BLOCK:
            return (
                f"expected rows of a multiple of {BLOCK} weights, found {tensor.name} of"
                f" {path.name} with rows of {tensor.dims[0]}: choose another variant"
            )
        if not all(_is_ternary(blocks) for blocks in _blocks(path, file, tensor)):
            return (
                f"expected ternary weights (each {BLOCK} in a row -s, 0 or s), found others in"
                f" {tensor.name} of {path.name}: choose another variant"
            )
    return None


def _is_stored_ternary(tensor: gguf.Tensor) -> bool:
    """Tell whether llama.cpp gives the tensor the variant's own form; others keep more bits."""
    name = tensor.name
    return (
        name.startswith("blk.")
        and name.endswith("weight")
        and not name.endswith(("_norm.weight", "ffn_gate_inp.weight"))
        and len(tensor.dims) > 1
    )


def _blocks(path: Path, file: gguf.GgufFile, tensor: gguf.Tensor) -> Iterator[NDArray[np.float32]]:
    """Yield a tensor's weights in order, a block a row, a slab at a time."""
    dtype = np.dtype(_DTYPES[tensor.type])
    left = tensor.elements
    with path.open("rb") as source:
        source.seek(file.data_start + tensor.offset)
        while left:
            slab = np.frombuffer(source.read(min(left, _READ) * dtype.itemsize), dtype)
            if not slab.size:
                raise EOFError(f"{path.name} ended within {tensor.name}")
            left -= slab.size
            yield _as_f32(slab, tensor.type).reshape(-1, BLOCK)


def _as_f32(slab: NDArray[np.generic], kind: str) -> NDArray[np.float32]:
    if kind == "BF16":
        return (slab.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return slab.astype(np.float32)


def _is_ternary(blocks: NDArray[np.float32]) -> bool:
    sizes = np.abs(blocks)
    scale = sizes.max(axis=1, keepdims=True)
    if not bool(((sizes == 0) | (sizes == scale)).all()):
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # beyond F16 is no number, and unequal
        stored = scale.astype(np.float16).astype(np.float32)
        return bool((np.abs(stored - scale) <= scale * _F16_ERROR).all())
