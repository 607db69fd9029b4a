"""Which LoRA adapters may be loaded beside a model file.

An adapter is a GGUF of its own: for a tensor `NAME` of the model it has `NAME.lora_a` and
`NAME.lora_b`, whose product, scaled, is added to it. llama.cpp compares two dimensions of each and
ends the process over others when it computes; so all of them are compared here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sprat_proto.gguf_header import GgufFile, ModelFileError, Tensor, read

__all__ = ["MAX_RANK", "ModelFileError", "check"]

MAX_RANK: Final = 1024  # beyond it, the step's buffers would need more than `fit` counts
_TYPES: Final = ("F32", "F16", "BF16", "Q8_0")  # what llama.cpp's converter writes
_A: Final = ".lora_a"
_B: Final = ".lora_b"
# Its rows are looked up by token, not multiplied, so its factors are stored the other way round.
_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"


def check(path: Path, base: Sequence[GgufFile], name: str) -> None:
    """Read an adapter's header and check that it fits a model.

    Args:
        path: The adapter.
        base: The headers of the model's files.
        name: The adapter's, for messages.

    Raises:
        ModelFileError: The first thing that is wrong.
    """
    try:
        file = read(path)
    except ModelFileError as error:
        raise ModelFileError(f"adapter {name}: {error}") from error
    tensors = {tensor.name: tensor for part in base for tensor in part.tensors}
    fault = _fault_of_metadata(file, base[0].architecture) or _fault_of_tensors(file, tensors)
    if fault:
        raise ModelFileError(f"adapter {name}: {fault}")


def _fault_of_metadata(file: GgufFile, architecture: str) -> str | None:
    for key, expected in (
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
        ("general.architecture", architecture),
    ):
        found = file.metadata.get(key)
        if found != expected:
            return f"expected {key} to be {expected!r}, found {found!r}"[:200]
    alpha = file.metadata.get("adapter.lora.alpha")
    if not isinstance(alpha, float) or not math.isfinite(alpha) or alpha <= 0:
        return f"expected a scale (adapter.lora.alpha) above 0, found {alpha!r}"[:200]
    if any(key.startswith("adapter.alora.") for key in (*file.arrays, *file.metadata)):
        return "expected an adapter that is always on, found one that certain tokens turn on"
    return None


def _fault_of_tensors(file: GgufFile, base: Mapping[str, Tensor]) -> str | None:
    mine = {tensor.name: tensor for tensor in file.tensors}
    for name, tensor in mine.items():
        stem, suffix = name[: -len(_A)], name[-len(_A) :]
        if suffix not in {_A, _B}:
            return f"expected tensors NAME{_A} and NAME{_B}, found {name!r}"
        if tensor.type not in _TYPES:
            return f"expected {name} to be of {', '.join(_TYPES)}, found {tensor.type}"
        if suffix == _B and stem + _A not in mine:
            return f"expected {stem}{_A} beside {name}, found none"
        if suffix == _A:
            other = mine.get(stem + _B)
            if other is None:
                return f"expected {stem}{_B} beside {name}, found none"
            if fault := _fault_of_pair(stem, (tensor.dims, other.dims), base):
                return fault
    return None


def _fault_of_pair(
    name: str, found: tuple[tuple[int, ...], tuple[int, ...]], base: Mapping[str, Tensor]
) -> str | None:
    """Judge the two factors of what is added to the tensor `name`."""
    target = base.get(name)
    if target is None or len(target.dims) == 1:
        return f"expected a matrix {name} in the model, found none: is it another model's adapter?"
    if name == _EMBEDDING and _OUTPUT not in base:
        return f"expected no {name}{_A}: the model's output is the same tensor, found one"
    width, height, *more = target.dims
    rank = found[0][0] if name == _EMBEDDING else found[0][1] if len(found[0]) > 1 else 0
    if not 0 < rank <= MAX_RANK:
        return f"expected {name}{_A} to have a rank of 1 to {MAX_RANK}, found {rank}"
    expected = ((width, rank, *more), (rank, height, *more))
    if name == _EMBEDDING:
        expected = ((rank, height), (rank, width))
    if found != expected:
        a, b = expected
        return (
            f"expected {name}{_A} and {_B} of dimensions {a} and {b} for {target.dims} in the"
            f" model, found {found[0]} and {found[1]}"
        )
    return None
