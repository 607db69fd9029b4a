"""A strict reader of safetensors headers: what a publisher's own model says before it is converted.

The format (github.com/safetensors/safetensors, README): 8 bytes give the length of a JSON object,
which maps names to type, shape and place of each tensor; the data follow, without gaps. The header
is taken apart entry by entry and never built as a whole, so it costs its own length and what is
kept of its entries; the data are not read. Refused is also what the reference reader lets pass and
the format forbids: a name that occurs twice, and fields that it does not have.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
from msgspec import Meta, Struct
from sprat_proto.gguf_header import ModelFileError
from sprat_proto.opened import opened

__all__ = ["DTYPE_BITS", "ModelFileError", "SafetensorsFile", "SafetensorsTensor", "read"]

MAX_HEADER_BYTES: Final = 32 << 20  # the format allows 100 MB; 20,000 experts' tensors take 3 MB
MAX_TENSORS: Final = 100_000
MAX_NAME_BYTES: Final = 512
MAX_DIMENSIONS: Final = 16
MAX_METADATA_KEYS: Final = 4096
MAX_METADATA_BYTES: Final = 4 << 20

# Bits of one element.
DTYPE_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_LENGTH_BYTES: Final = 8
_METADATA: Final = "__metadata__"
_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_TEXT: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\.)*+"')
_ENTRY: Final = re.compile(rb"\{[^{}]{0,1024}+\}")  # one tensor's: no objects within
_QUOTES: Final = 8  # around three keys and one value: one more would be a key twice

_Number = Annotated[int, Meta(ge=0, le=1 << 48)]
_Shape = Annotated[list[_Number], Meta(max_length=MAX_DIMENSIONS)]


class _Entry(Struct, forbid_unknown_fields=True):
    """One tensor in the header, with the format's names."""

    dtype: str
    shape: _Shape
    data_offsets: tuple[_Number, _Number]


_entries = msgspec.json.Decoder(_Entry)
_texts = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class SafetensorsTensor:
    """One tensor; its bytes are `begin` to `end` after `SafetensorsFile.data_offset`."""

    name: str
    dtype: str  # of DTYPE_BITS
    shape: tuple[int, ...]  # row by row: the last dimension is the length of a row
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """What the header says; the tensors in the order of their data."""

    tensors: tuple[SafetensorsTensor, ...]
    metadata: Mapping[str, str]
    data_offset: int  # of the first tensor, in bytes from the start of the file


def read(path: Path) -> SafetensorsFile:
    """Read the header and check that its tensors are exactly the rest of the file.

    Raises:
        ModelFileError: It cannot be read, or is not well formed.
    """
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            header = _read_header(file, size)
        start = _LENGTH_BYTES + len(header)
        tensors, metadata = _Header(header).read()
        return SafetensorsFile(_in_order(tensors, size - start), metadata, start)
    except ModelFileError as error:
        raise ModelFileError(f"model file {path.name}: {error}") from error


def _read_header(file: BinaryIO, size: int) -> bytes:
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES:
        raise ModelFileError(f"expected a safetensors file of 8 bytes or more, found {size}")
    if not 1 < length <= MAX_HEADER_BYTES:
        raise ModelFileError(f"expected a header of 2 to {MAX_HEADER_BYTES} bytes, found {length}")
    header = file.read(length) if length <= size - _LENGTH_BYTES else b""
    if len(header) != length:
        raise ModelFileError(f"expected a header of {length} bytes, found the end of the file")
    return header


class _Header:
    """One pass over a header, front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self) -> tuple[list[SafetensorsTensor], dict[str, str]]:
        tensors: list[SafetensorsTensor] = []
        metadata: dict[str, str] | None = None
        names: set[str] = set()
        if not self._data.startswith(b"{"):
            raise ModelFileError(f"expected a header that begins with '{{', {self._found()}")
        for name in self._names(MAX_NAME_BYTES):
            if name in names:
                raise ModelFileError(f"expected each name once, found {name[:64]!r} again")
            names.add(name)
            if name == _METADATA:
                metadata = self._metadata()
                continue
            if len(tensors) == MAX_TENSORS:
                raise ModelFileError(f"expected at most {MAX_TENSORS} tensors, found more")
            tensors.append(self._tensor(name))
        if self._data[self._at :].strip(b" "):
            raise ModelFileError(f"expected nothing but spaces after the header, {self._found()}")
        return tensors, metadata or {}

    def _names(self, limit: int) -> Iterator[str]:
        """Walk through an object: whoever takes a name reads its value before the next."""
        self._expect(b"{")
        if self._is_next(b"}"):
            return
        while True:
            name = self._text(limit)
            self._expect(b":")
            yield name
            if self._is_next(b"}"):
                return
            self._expect(b",")

    def _metadata(self) -> dict[str, str]:
        metadata: dict[str, str] = {}
        left = MAX_METADATA_BYTES
        for key in self._names(left):
            if key in metadata or len(metadata) == MAX_METADATA_KEYS:
                raise ModelFileError(
                    f"expected up to {MAX_METADATA_KEYS} metadata keys, each once,"
                    f" found one more: {key[:64]!r}"
                )
            metadata[key] = self._text(left)
            left -= len(key) + len(metadata[key])
            if left < 0:
                raise ModelFileError(f"expected at most {MAX_METADATA_BYTES} bytes of metadata")
        return metadata

    def _tensor(self, name: str) -> SafetensorsTensor:
        self._skip_space()
        match = _ENTRY.match(self._data, self._at)
        text = match.group() if match else b""
        try:
            entry = _entries.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelFileError(
                f"expected dtype, shape and data_offsets of {name[:64]!r}, {self._found()}"
            ) from error
        if text.count(b'"') != _QUOTES:
            raise ModelFileError(f"expected each field of {name[:64]!r} once, {self._found()}")
        self._at += len(text)
        begin, end = entry.data_offsets
        tensor = SafetensorsTensor(name, entry.dtype, tuple(entry.shape), begin, end)
        bits = DTYPE_BITS.get(entry.dtype)
        if bits is None:
            raise ModelFileError(
                f"expected a known dtype of {name[:64]!r}, found {entry.dtype[:64]!r}"
            )
        if tensor.elements * bits != (end - begin) * 8:
            raise ModelFileError(
                f"expected {name[:64]!r} to take {tensor.shape} elements of {bits} bits,"
                f" found {end - begin} bytes"
            )
        return tensor

    def _text(self, limit: int) -> str:
        self._skip_space()
        match = _TEXT.match(self._data, self._at, self._at + limit + 2)
        if match is None:
            raise ModelFileError(f"expected a text of at most {limit} bytes, {self._found()}")
        self._at = match.end()
        try:
            return _texts.decode(match.group())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelFileError(f"expected a text in UTF-8, {self._found()}") from error

    def _expect(self, character: bytes) -> None:
        if not self._is_next(character):
            raise ModelFileError(f"expected {character.decode()!r}, {self._found()}")

    def _is_next(self, character: bytes) -> bool:
        """Step over `character` if it is what follows."""
        self._skip_space()
        is_next = self._data.startswith(character, self._at)
        self._at += is_next
        return is_next

    def _skip_space(self) -> None:
        match = _SPACE.match(self._data, self._at)
        self._at = match.end() if match else self._at

    def _found(self) -> str:
        found = self._data[self._at : self._at + 32]
        return f"found {found!r} at byte {self._at} of the header"


def _in_order(tensors: list[SafetensorsTensor], room: int) -> tuple[SafetensorsTensor, ...]:
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            raise ModelFileError(
                f"expected {tensor.name[:64]!r} to begin where another ends, at {end},"
                f" found {tensor.begin}"
            )
        end = tensor.end
    if end != room:
        raise ModelFileError(f"expected {end} bytes of data (the header's tensors), found {room}")
    return tuple(tensors)
