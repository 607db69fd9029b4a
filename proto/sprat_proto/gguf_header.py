"""A strict reader of GGUF v3 headers, in front of the native parser: standard library only.

It never allocates what the file asks for: each count is compared with a limit and each length with
what is left of the file before anything is read, strings of arrays are looked at one by one and not
kept, and the whole result stays below about 16 MiB. The file is read, not mapped: a file that
shrinks meanwhile is an error, not a SIGBUS.

Whether the header describes a model that Sprat runs is the matter of `sprat_proto.gguf`.
"""

from __future__ import annotations

import math
import os
import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from sprat_proto.gguf_vocabulary import Vocabulary, VocabularyReader
from sprat_proto.tensor_types import TENSOR_TYPES

MAX_KEYS: Final = 4096
MAX_TENSORS: Final = 16384  # 512 blocks of up to 32 tensors
MAX_DIMENSIONS: Final = 4
MAX_KEY_BYTES: Final = 256
MAX_NAME_BYTES: Final = 63  # ggml keeps 64 with the final zero
MAX_STRING_BYTES: Final = 64 << 10
MAX_KEPT_BYTES: Final = 4 << 20  # all metadata strings together
MAX_ARRAY: Final = 2_000_000
# Of all arrays together: each is looked at, which takes a microsecond, though it may cost a hole in
# the file alone. The largest vocabulary and its merges are below a million.
MAX_STRINGS: Final = 4_000_000
MAX_TOKENS: Final = 1 << 20  # the largest vocabulary in use has 262,144
MAX_DIMENSION: Final = 1 << 40
MAX_ELEMENTS: Final = 1 << 46  # of 4 bytes each they fit `manifest.Size`

Scalar: TypeAlias = str | int | float | bool

_STRING: Final = 8
_ARRAY: Final = 9
_BOOL: Final = 7
_U32: Final = 4
_I32: Final = 5
_F32: Final = 6
_SCALARS: Final[Mapping[int, struct.Struct]] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    _U32: struct.Struct("<I"),
    _I32: struct.Struct("<i"),
    _F32: struct.Struct("<f"),
    _BOOL: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_ALIGNMENTS: Final = (8, 16, 32, 64, 128, 256, 4096)
# What the native loader takes for granted: the types of these values, and of arrays' elements.
_KINDS: Final[Mapping[str, int]] = {
    "general.alignment": _U32,
    "general.architecture": _STRING,
    "adapter.lora.alpha": _F32,
}
_TOKENS: Final = "tokenizer.ggml.tokens"
_TYPES: Final = "tokenizer.ggml.token_type"
_SUPPRESSED: Final = "tokenizer.ggml.suppress_tokens"
_ARRAY_KINDS: Final[Mapping[str, int]] = {
    _TOKENS: _STRING,
    "tokenizer.ggml.merges": _STRING,
    "tokenizer.ggml.scores": _F32,
    _TYPES: _I32,
    _SUPPRESSED: _I32,
}
# Numbers that the native loader uses as they are, so they are looked at.
_SEEN: Final = frozenset({_TYPES, _SUPPRESSED})


class ModelFileError(ValueError):
    """The file is not a GGUF model that may be loaded; the message is one sentence."""


@dataclass(frozen=True)
class Array:
    """A metadata array: its length; the elements are not kept."""

    kind: int
    count: int
    lowest: int = 0  # of token types and ids; else 0
    highest: int = 0


@dataclass(frozen=True)
class Tensor:
    """One tensor; `dims` as ggml counts them (row length first), sizes and offsets in bytes."""

    name: str
    dims: tuple[int, ...]
    type: str
    offset: int  # from `GgufFile.data_start`
    size: int

    @property
    def elements(self) -> int:
        """Number of weights."""
        return math.prod(self.dims)


@dataclass(frozen=True)
class GgufFile:
    """What the header says."""

    metadata: Mapping[str, Scalar]
    arrays: Mapping[str, Array]
    tensors: tuple[Tensor, ...]
    vocabulary: Vocabulary
    data_start: int
    size: int

    @property
    def architecture(self) -> str:
        """`general.architecture`, or nothing."""
        return str(self.metadata.get("general.architecture", ""))

    def of_architecture(self, key: str) -> int | None:
        """Return the integer `<architecture>.<key>`, or None."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if type(value) is int else None


def read(path: Path) -> GgufFile:
    """Read the header and check that it is well formed and that all tensors lie in the file.

    Raises:
        ModelFileError: It cannot be read, or is not well formed.
    """
    try:
        with open(path, "rb", opener=without_waiting) as file:
            return _Header(file, path.name).read()
    except OSError as error:
        raise ModelFileError(
            f"model file {path.name}: expected a readable file, found: {error.strerror}"
        ) from error


def without_waiting(path: str, flags: int) -> int:
    """Open a file; if it is a pipe, there may never be another end to wait for."""
    return os.open(path, flags | os.O_NONBLOCK)


class _Header:
    """One pass over a header, front to back."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._size = os.fstat(file.fileno()).st_size
        self._position = 0
        self._kept = 0
        self._strings = 0  # in arrays
        self._metadata: dict[str, Scalar] = {}
        self._arrays: dict[str, Array] = {}
        self._vocabulary = VocabularyReader()

    def read(self) -> GgufFile:
        if self._take(4) != b"GGUF":
            raise self._error("expected a GGUF model (its first bytes say so), found another file")
        version = self._u32()
        if version != 3:  # noqa: PLR2004 - the format's own number
            raise self._error(f"expected GGUF version 3, found {version}")
        tensors, keys = self._u64(), self._u64()
        if not 0 < tensors <= MAX_TENSORS:
            raise self._error(f"expected 1 to {MAX_TENSORS} tensors, found {tensors}")
        if keys > MAX_KEYS:
            raise self._error(f"expected at most {MAX_KEYS} metadata keys, found {keys}")
        for _ in range(keys):
            self._read_pair()
        return self._read_tensors(tensors)

    def _read_pair(self) -> None:
        key = self._string(MAX_KEY_BYTES, "metadata key")
        if not _is_key(key) or key in self._metadata or key in self._arrays:
            raise self._error(
                "expected metadata keys of letters, digits and ._- that occur once,"
                f" found {key[:64]!r}"
            )
        kind = self._u32()
        if kind != _KINDS.get(key, kind):
            raise self._error(f"expected the value type {_KINDS[key]} for {key}, found {kind}")
        if kind == _ARRAY:
            self._arrays[key] = self._array(key)
        elif kind == _STRING:
            text = self._string(MAX_STRING_BYTES, f"value of {key}")
            self._kept += len(text)
            if self._kept > MAX_KEPT_BYTES:
                raise self._error(f"expected at most {MAX_KEPT_BYTES} bytes of metadata strings")
            self._metadata[key] = text
        else:
            self._metadata[key] = self._scalar(kind, key)

    def _scalar(self, kind: int, key: str) -> Scalar:
        form = _SCALARS.get(kind)
        if form is None:
            raise self._error(f"expected a GGUF value type for {key}, found {kind}")
        value = form.unpack(self._take(form.size))[0]
        if kind != _BOOL:
            return value
        if value > 1:
            raise self._error(f"expected 0 or 1 for the boolean {key}, found {value}")
        return bool(value)

    def _array(self, key: str) -> Array:
        kind, count = self._u32(), self._u64()
        limit = MAX_TOKENS if key in {_TOKENS, _TYPES} else MAX_ARRAY
        if count > limit:
            raise self._error(f"expected at most {limit} elements in {key}, found {count}")
        wanted = _ARRAY_KINDS.get(key, kind)
        if kind != wanted or (kind != _STRING and kind not in _SCALARS):
            raise self._error(f"expected a valid element type in {key}, found {kind}")
        if key in _SEEN:
            return self._seen(key, kind, count)
        if kind == _STRING:
            self._strings += count
            if self._strings > MAX_STRINGS:
                raise self._error(
                    f"expected at most {MAX_STRINGS} strings in all arrays, found {self._strings}"
                    f" up to {key}"
                )
            take = self._vocabulary.take_token if key == _TOKENS else _ignore
            for _ in range(count):
                take(self._string(MAX_STRING_BYTES, f"element of {key}"))
        else:
            self._skip(count * _SCALARS[kind].size)
        return Array(kind, count)

    def _seen(self, key: str, kind: int, count: int) -> Array:
        numbers = array("i")  # 32 bits wherever Python runs
        numbers.frombytes(self._take(count * numbers.itemsize))
        if sys.byteorder == "big":
            numbers.byteswap()
        if key == _TYPES:
            self._vocabulary.take_types(numbers)
        return Array(kind, count, min(numbers, default=0), max(numbers, default=0))

    def _read_tensors(self, count: int) -> GgufFile:
        alignment = self._metadata.get("general.alignment", 32)
        if alignment not in _ALIGNMENTS:
            raise self._error(f"expected an alignment of {_ALIGNMENTS}, found {alignment!r}")
        tensors: dict[str, Tensor] = {}
        end = 0
        for _ in range(count):
            tensor = self._tensor(expected_offset=end)
            if tensor.name in tensors:
                raise self._error(f"expected each tensor once, found {tensor.name!r} again")
            tensors[tensor.name] = tensor
            end = _padded(end + tensor.size, int(alignment))
        start = _padded(self._position, int(alignment))
        last = next(reversed(tensors.values()))
        if start + last.offset + last.size > self._size:
            raise self._error(
                f"expected {start + last.offset + last.size} bytes (the header's tensors),"
                f" found {self._size}: the file is cut off"
            )
        return GgufFile(
            self._metadata,
            self._arrays,
            tuple(tensors.values()),
            self._vocabulary.result(),
            start,
            self._size,
        )

    def _tensor(self, *, expected_offset: int) -> Tensor:
        name = self._string(MAX_NAME_BYTES, "tensor name")
        dims = self._dims(name)
        kind, offset = self._u32(), self._u64()
        if kind not in TENSOR_TYPES:
            raise self._error(f"expected a known type of tensor {name!r}, found {kind}")
        label, block, block_bytes = TENSOR_TYPES[kind]
        if dims[0] % block:
            raise self._error(
                f"expected rows of tensor {name!r} to be multiples of {block} weights ({label}),"
                f" found {dims[0]}"
            )
        if offset != expected_offset:
            raise self._error(
                f"expected tensor {name!r} at offset {expected_offset}, found {offset}"
            )
        return Tensor(name, dims, label, offset, math.prod(dims) // block * block_bytes)

    def _dims(self, name: str) -> tuple[int, ...]:
        count = self._u32()
        if not 1 <= count <= MAX_DIMENSIONS:
            raise self._error(
                f"expected 1 to {MAX_DIMENSIONS} dimensions of tensor {name!r}, found {count}"
            )
        dims = tuple(self._u64() for _ in range(count))
        if not all(0 < dim <= MAX_DIMENSION for dim in dims) or math.prod(dims) > MAX_ELEMENTS:
            raise self._error(f"expected sensible dimensions of tensor {name!r}, found {dims}")
        return dims

    def _string(self, limit: int, what: str) -> str:
        length = self._u64()
        if length > limit:
            raise self._error(f"expected a {what} of at most {limit} bytes, found {length}")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise self._error(f"expected UTF-8 in a {what}, found other bytes") from error

    def _u32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _take(self, count: int) -> bytes:
        self._position += count
        data = self._file.read(count) if self._position <= self._size else b""
        if len(data) != count:
            raise self._error("expected a whole header, found the end of the file")
        return data

    def _skip(self, count: int) -> None:
        self._position += count
        if self._position > self._size:
            raise self._error("expected a whole header, found the end of the file")
        self._file.seek(count, os.SEEK_CUR)

    def _error(self, text: str) -> ModelFileError:
        return ModelFileError(f"model file {self._name}: {text}")


def _ignore(_text: str) -> None:
    """Nothing is asked of this element but its form."""


def _is_key(text: str) -> bool:
    return bool(text) and all(c.isascii() and (c.isalnum() or c in "._-") for c in text)


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
