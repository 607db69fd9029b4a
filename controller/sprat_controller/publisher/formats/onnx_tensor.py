"""The tensors of an ONNX model: types, sizes, and where their bytes are (onnx.proto, IR 13)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sprat_proto.gguf_header import ModelFileError

from sprat_controller.publisher.formats.protobuf_reader import Field, ProtobufReader, Span, WireType

MAX_NAME_BYTES: Final = 1024
MAX_DIMENSIONS: Final = 16
MAX_DIMENSION: Final = 1 << 40
MAX_ELEMENTS: Final = 1 << 46
_MAX_LOCATION_BYTES: Final = 255
_MAX_EXTERNAL: Final = 8  # the format has four keys

# Data types by their number: the name and the bits of an element; a string has those it has.
DATA_TYPES: Final[Mapping[int, tuple[str, int]]] = {
    1: ("FLOAT", 32),
    2: ("UINT8", 8),
    3: ("INT8", 8),
    4: ("UINT16", 16),
    5: ("INT16", 16),
    6: ("INT32", 32),
    7: ("INT64", 64),
    8: ("STRING", 0),
    9: ("BOOL", 8),
    10: ("FLOAT16", 16),
    11: ("DOUBLE", 64),
    12: ("UINT32", 32),
    13: ("UINT64", 64),
    14: ("COMPLEX64", 64),
    15: ("COMPLEX128", 128),
    16: ("BFLOAT16", 16),
    17: ("FLOAT8E4M3FN", 8),
    18: ("FLOAT8E4M3FNUZ", 8),
    19: ("FLOAT8E5M2", 8),
    20: ("FLOAT8E5M2FNUZ", 8),
    21: ("UINT4", 4),
    22: ("INT4", 4),
    23: ("FLOAT4E2M1", 4),
    24: ("FLOAT8E8M0", 8),
    25: ("UINT2", 2),
    26: ("INT2", 2),
    27: ("FLOAT6E2M3", 6),
    28: ("FLOAT6E3M2", 6),
}
# Fields of a TensorProto.
_DIMS, _TYPE, _SEGMENT, _STRINGS, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 3, 6, 8, 9, 13, 14
_ONCE: Final = frozenset({_TYPE, _SEGMENT, _NAME, _RAW, _LOCATION})
_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S = 4, 5, 7, 10, 11
_WIDTHS: Final = {_FLOATS: 4, _DOUBLES: 8}  # of the numbers that are not of variable length
_TYPED: Final = frozenset({_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S})
# Which field has the elements of a type, if they are not raw, and how many numbers for how many.
_FIELDS: Final[Mapping[str, tuple[int, int, int]]] = {
    "FLOAT": (_FLOATS, 1, 1),
    "COMPLEX64": (_FLOATS, 2, 1),
    "DOUBLE": (_DOUBLES, 1, 1),
    "COMPLEX128": (_DOUBLES, 2, 1),
    "INT64": (_INT64S, 1, 1),
    "UINT32": (_UINT64S, 1, 1),
    "UINT64": (_UINT64S, 1, 1),
    **dict.fromkeys(("UINT4", "INT4", "FLOAT4E2M1"), (_INT32S, 1, 2)),
    **dict.fromkeys(("UINT2", "INT2"), (_INT32S, 1, 4)),
}
_IN_INT32S: Final = (_INT32S, 1, 1)  # all others
_NUMBER: Final = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """A constant of a model."""

    name: str
    dtype: str  # of DATA_TYPES
    dims: tuple[int, ...]
    size: int  # bytes of its elements; as raw data, however they are written
    location: str = ""  # the file beside the model that has them; else the model itself
    offset: int = 0  # in that file

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)


def read_tensor(reader: ProtobufReader, span: Span) -> OnnxTensor:
    """Read a TensorProto, but for its elements.

    Raises:
        ModelFileError: It is not well formed, or has not as many elements as its dimensions say.
    """
    found = _Found()
    for one in reader.fields(span, _ONCE):
        found.take(reader, one)
    return found.result()


@dataclass
class _Found:
    """What was read of a tensor so far."""

    name: str = ""
    type: int = 0
    dims: list[int] = field(default_factory=list[int])
    raw: int | None = None  # bytes
    numbers: dict[int, int] = field(default_factory=dict[int, int])  # by the field that has them
    strings: int = 0
    string_bytes: int = 0
    is_external: bool = False
    external: dict[str, str] = field(default_factory=dict[str, str])

    def take(self, reader: ProtobufReader, one: Field) -> None:
        match one.number:
            case 1:
                self._take_dims(reader, one)
            case 2:
                self.type = one.number_value()
            case 3:
                raise ModelFileError("expected whole tensors, found a segment of one")
            case 6:
                self.strings += 1
                self.string_bytes += one.message().size
            case 8:
                self.name = reader.text(one.message(), MAX_NAME_BYTES, "a tensor's name")
            case 9:
                self.raw = one.message().size
            case 13:
                self._take_external(reader, one.message())
            case 14:
                self.is_external = one.number_value() != 0
            case number if number in _TYPED:
                count = _count(reader, one)
                self.numbers[number] = self.numbers.get(number, 0) + count
            case _:
                pass  # what it is about, for people

    def _take_dims(self, reader: ProtobufReader, one: Field) -> None:
        if one.type is WireType.BYTES:
            self.dims += reader.numbers(one.span, MAX_DIMENSIONS)
        else:
            self.dims.append(one.number_value())
        if len(self.dims) > MAX_DIMENSIONS:
            raise ModelFileError(
                f"expected at most {MAX_DIMENSIONS} dimensions of a tensor, found more"
            )

    def _take_external(self, reader: ProtobufReader, span: Span) -> None:
        key, value = "", ""
        for one in reader.fields(span, frozenset({1, 2})):
            if one.number == 1:
                key = reader.text(one.message(), _MAX_LOCATION_BYTES, "a key of external data")
            elif one.number == 2:  # noqa: PLR2004 - the format's own number
                value = reader.text(one.message(), _MAX_LOCATION_BYTES, f"{key} of external data")
        if key in self.external or len(self.external) == _MAX_EXTERNAL:
            raise ModelFileError(
                f"expected up to {_MAX_EXTERNAL} keys of external data, each once, found one more:"
                f" {key[:64]!r}"
            )
        self.external[key] = value

    def result(self) -> OnnxTensor:
        label = f"tensor {self.name[:64]!r}"
        if self.type not in DATA_TYPES:
            raise ModelFileError(f"expected a known type of {label}, found {self.type}")
        dtype, bits = DATA_TYPES[self.type]
        if not all(0 <= dim <= MAX_DIMENSION for dim in self.dims) or (
            math.prod(self.dims) > MAX_ELEMENTS
        ):
            raise ModelFileError(f"expected sensible dimensions of {label}, found {self.dims}")
        elements = math.prod(self.dims)
        size = self.string_bytes if dtype == "STRING" else -(-elements * bits // 8)
        tensor = OnnxTensor(self.name, dtype, tuple(self.dims), size)
        if self.is_external:
            return self._elsewhere(tensor, label)
        self._check_data(tensor, label)
        return tensor

    def _check_data(self, tensor: OnnxTensor, label: str) -> None:
        """Check that the elements are in the one field that is theirs, and all there."""
        place, numbers, elements = _FIELDS.get(tensor.dtype, _IN_INT32S)
        expected = -(-tensor.elements * numbers // elements)
        if tensor.dtype == "STRING":
            place = _STRINGS
        elif self.raw is not None:
            place, expected = _RAW, tensor.size
        if self._counts() != ({place: expected} if expected else {}) or self.external:
            raise ModelFileError(
                f"expected the data of {label} ({tensor.dtype} {self.dims}) in field {place},"
                f" {expected} bytes or numbers, found {self._counts()}"
            )

    def _counts(self) -> dict[int, int]:
        """Return how many bytes, texts or numbers were found, by the field that has them."""
        counts = {**self.numbers, _STRINGS: self.strings, _RAW: self.raw or 0}
        return {number: count for number, count in counts.items() if count}

    def _elsewhere(self, tensor: OnnxTensor, label: str) -> OnnxTensor:
        location = self.external.get("location", "")
        if self._counts() or tensor.dtype == "STRING":
            raise ModelFileError(f"expected the data of {label} in one place, found two")
        if not _is_plain(location):
            raise ModelFileError(
                f"expected the name of a file beside the model as location of {label},"
                f" found {location!r}"
            )
        offset = _whole(self.external.get("offset", "0"), f"an offset of {label}")
        length = _whole(self.external.get("length", str(tensor.size)), f"a length of {label}")
        if length != tensor.size:
            raise ModelFileError(
                f"expected {tensor.size} bytes of {label} in {location}, found {length}"
            )
        return OnnxTensor(tensor.name, tensor.dtype, tensor.dims, length, location, offset)


def _count(reader: ProtobufReader, one: Field) -> int:
    """Return how many numbers a field of elements has: one, or many if they are packed."""
    width = _WIDTHS.get(one.number)
    if one.type is not WireType.BYTES:
        one.expect({None: WireType.VARINT, 4: WireType.FIXED32, 8: WireType.FIXED64}[width])
        return 1
    if width is None:
        return reader.count(one.span)
    if one.span.size % width:
        raise ModelFileError(f"expected numbers of {width} bytes, found {one.span.size} bytes")
    return one.span.size // width


def _whole(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ModelFileError(f"expected {what} in up to 15 digits, found {text[:64]!r}")
    return int(text)


def _is_plain(name: str) -> bool:
    """Tell whether a name stays in its folder on any system, and can be shown."""
    return name.isprintable() and not set(name) & set('/\\:*?"<>|') and name.strip(". ") != ""
