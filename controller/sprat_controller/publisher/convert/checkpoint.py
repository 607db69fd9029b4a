"""Where the tensors of a model folder lie: one safetensors file, or shards with an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from sprat_controller.publisher.convert.architectures import EMBEDDING, HEAD, Weight
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.files import read_json
from sprat_controller.publisher.formats import safetensors

MAX_INDEX_BYTES: Final = 16 << 20
MAX_SHARDS: Final = 1024
WHOLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

FLOATS: Final = frozenset({"F32", "F16", "BF16"})
PACKED: Final = "U8"  # of BitNet: four numbers in a byte
_SCALE: Final = "_scale"
# Tables that some checkpoints carry and every program computes anew.
_COMPUTED: Final = (".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")


class _Index(Struct):
    weight_map: Annotated[dict[str, str], Meta(min_length=1)]


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: `size` bytes from `offset`."""

    path: Path
    offset: int
    size: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """Where a weight comes from; `scale` only where four of its numbers are packed in a byte."""

    weight: Weight
    stored: Stored
    scale: Stored | None = None


def is_checkpoint(folder: Path) -> bool:
    """Say whether there are safetensors in a folder."""
    return (folder / WHOLE).is_file() or (folder / INDEX).is_file()


def find(folder: Path) -> dict[str, Stored]:
    """Return the tensors of a folder by name.

    Raises:
        ConvertError: No safetensors, or the index and the shards differ.
        ModelFileError: A file is not well formed.
    """
    index = read_json(folder / INDEX, _Index, MAX_INDEX_BYTES)
    if index is not None:
        return _of_shards(folder, index.weight_map)
    if not (folder / WHOLE).is_file():
        raise ConvertError(f"expected {WHOLE} or {INDEX} in the model folder, found neither")
    return _of_file(folder / WHOLE)


def _of_file(path: Path) -> dict[str, Stored]:
    file = safetensors.read(path)
    return {
        one.name: Stored(
            path, file.data_offset + one.begin, one.end - one.begin, one.dtype, one.shape
        )
        for one in file.tensors
    }


def _of_shards(folder: Path, places: Mapping[str, str]) -> dict[str, Stored]:
    names = sorted(set(places.values()))
    if len(names) > MAX_SHARDS:
        raise ConvertError(f"expected at most {MAX_SHARDS} shards, found {len(names)}")
    found: dict[str, Stored] = {}
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ConvertError(
                f"expected {INDEX} to name safetensors in its folder, found {name[:200]!r}"
            )
        for tensor, stored in _of_file(folder / name).items():
            if places.get(tensor) != name:
                place = places.get(tensor, "no file")[:200]
                raise ConvertError(
                    f"expected tensor {tensor[:200]!r} in {place} ({INDEX}), found it in {name}"
                )
            found[tensor] = stored
    missing = next((tensor for tensor in places if tensor not in found), None)
    if missing is not None:
        raise ConvertError(
            f"expected tensor {missing[:200]!r} in {places[missing]} ({INDEX}), found none"
        )
    return found


def match(
    weights: tuple[Weight, ...], found: Mapping[str, Stored], *, is_packed: bool
) -> tuple[Source, ...]:
    """Return where each weight comes from; every tensor of the folder is one of them.

    A head that is there although the embedding serves as one (`tie_word_embeddings`) is left to the
    caller to judge.

    Args:
        weights: What the model should have.
        found: What the folder has.
        is_packed: Whether linear layers may be BitNet's packed ones.

    Raises:
        ConvertError: A tensor is missing, of another shape or type, or not known.
    """
    left = {name: stored for name, stored in found.items() if not name.endswith(_COMPUTED)}
    if not any(weight.source == HEAD for weight in weights):
        left.pop(HEAD, None)
    sources = tuple(_source(weight, left, is_packed=is_packed) for weight in weights)
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise ConvertError(
            f"expected the tensors of the architecture alone, found {min(left)[:200]!r}{more}"
        )
    return sources


def _source(weight: Weight, left: dict[str, Stored], *, is_packed: bool) -> Source:
    stored = left.pop(weight.source, None)
    if stored is None:
        raise ConvertError(f"expected a tensor {weight.source}, found none")
    if is_packed and stored.dtype == PACKED and weight.source != EMBEDDING:
        return _packed(weight, stored, left)
    if stored.dtype not in FLOATS:
        allowed = ", ".join(sorted(FLOATS))
        raise ConvertError(f"expected {weight.source} as {allowed}, found {stored.dtype}")
    if stored.shape != weight.shape:
        raise ConvertError(
            f"expected {weight.source} of shape {weight.shape}, found {stored.shape}"
        )
    return Source(weight, stored)


def _packed(weight: Weight, stored: Stored, left: dict[str, Stored]) -> Source:
    rows, *columns = weight.shape
    if not columns or rows % 4 or stored.shape != (rows // 4, *columns):
        raise ConvertError(
            f"expected {weight.source} of shape {weight.shape} with four rows packed in one,"
            f" found {stored.shape}"
        )
    scale = left.pop(weight.source + _SCALE, None)
    if scale is None or scale.dtype not in FLOATS or scale.shape not in {(), (1,)}:
        raise ConvertError(f"expected one number as {weight.source}{_SCALE}, found none")
    return Source(weight, stored, scale)
