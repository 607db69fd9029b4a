"""The files that the weights of a model are in, taken together: safetensors with an index."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sprat_proto.gguf_header import ModelFileError

from sprat_controller.publisher.formats import safetensors
from sprat_controller.publisher.formats.model_config import MAX_INDEX_BYTES, Index, read_json
from sprat_controller.publisher.formats.safetensors import (
    DTYPE_BITS,
    MAX_TENSORS,
    SafetensorsTensor,
)

MAX_FILES: Final = 1024
_WHOLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_PACKED: Final = frozenset({"I32", "U32", "U8"})  # that have as many weights as go into them
_NO_WEIGHTS: Final = frozenset({"BOOL", "I64", "U64"})
# What packed weights have beside them; ordinary names where weights are not packed.
_BESIDE: Final = (".scales", ".biases", ".qzeros", ".g_idx", ".weight_scale")


@dataclass(frozen=True)
class Shards:
    """The files of a model, and what is in all of them."""

    files: tuple[str, ...]
    tensors: tuple[SafetensorsTensor, ...]


def read_shards(folder: Path, names: Collection[str]) -> Shards:
    """Read the headers of a model's files.

    Args:
        folder: Of the model.
        names: Of the files in it.

    Raises:
        ModelFileError: One is missing or not well formed, or the index says something else.
    """
    index: Mapping[str, str] = {}
    if _INDEX in names:
        index = read_json(folder / _INDEX, Index, MAX_INDEX_BYTES).weight_map
        files = sorted(set(index.values()))
    elif _WHOLE in names:
        files = [_WHOLE]
    else:
        files = sorted(name for name in names if name.endswith(".safetensors"))
        if len(files) != 1:
            raise ModelFileError(f"expected {_WHOLE} or {_INDEX}, found {len(files)} other files")
    missing = next((one for one in files if one not in names or not one.isprintable()), None)
    if missing is not None or len(files) > MAX_FILES:
        raise ModelFileError(
            f"expected up to {MAX_FILES} files of weights in the folder, found {len(files)}"
            f" and no {(missing or 'more')[:64]!r}"
        )
    return Shards(tuple(files), _read(folder, files, index))


def _read(
    folder: Path, files: Iterable[str], index: Mapping[str, str]
) -> tuple[SafetensorsTensor, ...]:
    found: dict[str, SafetensorsTensor] = {}
    for file in files:
        for tensor in safetensors.read(folder / file).tensors:
            if tensor.name in found or len(found) == MAX_TENSORS:
                raise ModelFileError(
                    f"expected up to {MAX_TENSORS} tensors, each in one file, found"
                    f" {tensor.name[:64]!r} in {file} as one more"
                )
            if index and index.get(tensor.name) != file:
                raise ModelFileError(
                    f"expected {tensor.name[:64]!r} in {index.get(tensor.name, 'no file')[:64]!r}"
                    f" ({_INDEX}), found it in {file}"
                )
            found[tensor.name] = tensor
    if index and len(found) != len(index):
        raise ModelFileError(f"expected {len(index)} tensors ({_INDEX}), found {len(found)}")
    if not found:
        raise ModelFileError("expected tensors, found none")
    return tuple(found.values())


def parameters(tensors: Iterable[SafetensorsTensor], bits: int | None) -> int:
    """Return how many weights tensors have; positions and masks are none.

    Args:
        tensors: All of a model.
        bits: Of a weight, if several are packed into one number; else None.
    """
    weights = 0
    for tensor in tensors:
        if tensor.dtype in _NO_WEIGHTS or (bits is not None and tensor.name.endswith(_BESIDE)):
            continue
        if bits is not None and tensor.dtype in _PACKED:
            weights += tensor.elements * DTYPE_BITS[tensor.dtype] // bits
        else:
            weights += tensor.elements
    return weights
