"""Tensors as numpy arrays: read in pieces, and changed to what the GGUF holds.

Files are read, not mapped: one that shrinks meanwhile is an error, not a SIGBUS.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sprat_controller.publisher.convert.checkpoint import Source, Stored
from sprat_controller.publisher.convert.errors import ConvertError

Floats: TypeAlias = NDArray[np.floating[Any]]

_PIECE_BYTES: Final = 4 << 20  # of the file at a time
_TYPES: Final = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1"}
_NO_NUMBER: Final = 3  # of a packed weight's four codes; the others are -1, 0 and 1


def is_f16(source: Source) -> bool:
    """Say whether a weight is stored in half precision; vectors and norms are not."""
    return len(source.weight.shape) > 1


def pieces(source: Source) -> Iterator[Floats]:
    """Read a weight, some rows at a time, in the form that the GGUF holds.

    Raises:
        ConvertError: A number is not finite or too large for half precision, or the file changed.
    """
    kind = np.float16 if is_f16(source) else np.float32
    heads = source.weight.heads
    for rows in _unpacked(source) if source.scale else _rows(source.stored, heads):
        piece = _interleaved(rows, source.weight.shape[0] // heads) if heads else rows
        if source.weight.shift:
            piece = piece.astype(np.float32) + np.float32(source.weight.shift)
        with np.errstate(over="ignore"):
            result = piece.astype(kind, copy=False)
        if not np.isfinite(result).all():
            raise ConvertError(
                f"expected numbers in {source.weight.source} that {np.dtype(kind).name} can hold,"
                " found one that is not finite or too large"
            )
        yield result


def is_equal(one: Stored, other: Stored) -> bool:
    """Say whether two tensors hold the same bytes."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pairs = zip(_rows(one, 0), _rows(other, 0), strict=True)
    return all(np.array_equal(left.view(np.uint8), right.view(np.uint8)) for left, right in pairs)


def _rows(stored: Stored, heads: int) -> Iterator[NDArray[Any]]:
    """Read a tensor of floats in pieces of whole rows, and of whole heads where there are some."""
    width = stored.size // stored.shape[0]
    for first, count in _steps(stored.shape[0], width, heads):
        data = _read(stored.path, stored.offset + first * width, count * width)
        yield _floats(data, stored.dtype).reshape(count, *stored.shape[1:])


def _steps(rows: int, width: int, heads: int) -> Iterator[tuple[int, int]]:
    """Cut rows of `width` bytes into pieces: the first of each, and how many."""
    unit = rows // heads if heads else 1
    step = max(_PIECE_BYTES // (width * unit), 1) * unit
    for first in range(0, rows, step):
        yield first, min(step, rows - first)


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise ConvertError(f"expected {path.name} to stay as it is, found it cut off")
    return data


def _floats(data: bytes, dtype: str) -> NDArray[Any]:
    numbers = np.frombuffer(data, dtype=_TYPES[dtype])
    if dtype != "BF16":
        return numbers
    return (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _interleaved(rows: NDArray[Any], width: int) -> NDArray[Any]:
    """Put the second half of each head's `width` rows between those of the first."""
    paired = rows.reshape(-1, 2, width // 2, *rows.shape[1:])
    return paired.swapaxes(1, 2).reshape(rows.shape)


def _unpacked(source: Source) -> Iterator[NDArray[Any]]:
    """Unpack a BitNet layer: transformers puts the rows r, r + n/4, r + n/2, ... in one byte."""
    stored, scale = source.stored, source.scale
    if scale is None:
        raise RuntimeError("a packed weight without its scale")
    packed = np.frombuffer(_read(stored.path, stored.offset, stored.size), dtype=np.uint8)
    codes = np.stack([(packed >> shift) & 3 for shift in (0, 2, 4, 6)]).reshape(source.weight.shape)
    if (codes == _NO_NUMBER).any():
        raise ConvertError(f"expected -1, 0 and 1 in {source.weight.source}, found another number")
    divisor = _floats(_read(scale.path, scale.offset, scale.size), scale.dtype).astype(np.float32)
    if not np.isfinite(divisor).all() or not divisor.all():
        raise ConvertError(f"expected a scale of {source.weight.source} other than 0, found it")
    rows, width = source.weight.shape
    for first, count in _steps(rows, width * 4, source.weight.heads):
        yield (codes[first : first + count].astype(np.float32) - np.float32(1)) / divisor
