"""A reader of protobuf's wire format for files that may be hostile: nothing is built from them.

Walks over a file by position: a field is yielded as where its bytes are, and only what is asked for
is read. Whatever the file says, the memory is one small buffer, and the work is the number of
fields, which has a limit. The library `protobuf` would build the whole message first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO, Final, NamedTuple

from sprat_proto.gguf_header import ModelFileError

MAX_BYTES: Final = 1 << 31  # no protobuf message is longer
_CHUNK: Final = 8 << 10
_COUNTED: Final = 1 << 16  # bytes of packed numbers at a time
_MORE: Final = bytes(range(0x80, 0x100))  # bytes of a number that another follows
_MAX_VARINT: Final = 10  # bytes
_VALUES: Final = 1 << 64
_MAX_FIELD: Final = (1 << 29) - 1


class WireType(IntEnum):
    """How a field's value is written; the group types of old are refused."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


_NAMES: Final = {
    WireType.VARINT: "a number",
    WireType.FIXED64: "8 bytes",
    WireType.BYTES: "bytes",
    WireType.FIXED32: "4 bytes",
}
# By what a tag says in its lowest three bits: the type, and the size of those that have one.
_TYPES: Final[tuple[tuple[WireType, int] | None, ...]] = (
    *((WireType.VARINT, 0), (WireType.FIXED64, 8), (WireType.BYTES, 0), None),
    *(None, (WireType.FIXED32, 4), None, None),
)


class Span(NamedTuple):
    """A part of the file: a message, a text, or numbers one after the other."""

    begin: int
    end: int

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.begin


class Field(NamedTuple):
    """One field of a message."""

    number: int
    type: WireType
    span: Span  # of the value, without its length
    value: int  # of a VARINT, without sign; else 0

    def number_value(self) -> int:
        """Return a number as the format's int64.

        Raises:
            ModelFileError: The field is not written as a number.
        """
        self.expect(WireType.VARINT)
        return self.value - _VALUES if self.value >= _VALUES >> 1 else self.value

    def message(self) -> Span:
        """Return where a message, a text or packed numbers are.

        Raises:
            ModelFileError: The field is not written as bytes.
        """
        self.expect(WireType.BYTES)
        return self.span

    def expect(self, kind: WireType) -> None:
        """Check how the field is written.

        Raises:
            ModelFileError: Otherwise.
        """
        if self.type is not kind:
            raise ModelFileError(
                f"expected {_NAMES[kind]} in field {self.number} at byte {self.span.begin},"
                f" found {_NAMES[self.type]}"
            )


class ProtobufReader:
    """Reads messages of an open file, from anywhere in it, with one budget of fields."""

    def __init__(self, file: BinaryIO, max_fields: int) -> None:
        """Look at the size of a file.

        Raises:
            ModelFileError: It is too long.
        """
        self._file = file.fileno()
        self._fields_left = self._max_fields = max_fields
        self._chunk = b""
        self._chunk_at = 0
        self.size = os.fstat(self._file).st_size
        if self.size > MAX_BYTES:
            raise ModelFileError(f"expected at most {MAX_BYTES} bytes, found {self.size}")

    def fields(self, span: Span, once: frozenset[int] = frozenset()) -> Iterator[Field]:
        """Yield the fields of a message in their order.

        Args:
            span: The message.
            once: The numbers of fields that must not be repeated: some readers would take the last
                one, and others the first or both.

        Raises:
            ModelFileError: It is not well formed, or there are too many fields in all.
        """
        seen: set[int] = set()
        at = span.begin
        while at < span.end:
            field = self._field(at, span.end)
            if field.number in seen:
                raise ModelFileError(
                    f"expected field {field.number} once in a message, found it again at byte {at}"
                )
            if field.number in once:
                seen.add(field.number)
            yield field
            at = field.span.end

    def _field(self, at: int, end: int) -> Field:
        if not self._fields_left:
            raise ModelFileError(f"expected at most {self._max_fields} fields, found more")
        self._fields_left -= 1
        tag, begin = self._varint(at, end)
        number, known = tag >> 3, _TYPES[tag & 7]
        if not 0 < number <= _MAX_FIELD or known is None:
            raise ModelFileError(f"expected a protobuf field at byte {at}, found {tag:#x}")
        value, (kind, size) = 0, known
        if kind is WireType.BYTES:
            size, begin = self._varint(begin, end)
        elif kind is WireType.VARINT:
            value, after = self._varint(begin, end)
            size = after - begin
        if size > end - begin:
            raise ModelFileError(
                f"expected {size} bytes in field {number} at byte {at}, found {end - begin}"
            )
        return Field(number, kind, Span(begin, begin + size), value)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """Return a number and where it ends."""
        offset = at - self._chunk_at
        if at < end and 0 <= offset < len(self._chunk) and self._chunk[offset] < _MORE[0]:
            return self._chunk[offset], at + 1  # nearly all are so short
        value = 0
        data = self._near(at, min(at + _MAX_VARINT, end))
        for index, byte in enumerate(data):
            value |= (byte & 0x7F) << 7 * index
            if byte < _MORE[0]:
                if value >= _VALUES:
                    break
                return value, at + index + 1
        raise ModelFileError(f"expected a number of 64 bits at byte {at}, found {data!r}")

    def _near(self, begin: int, end: int) -> bytes:
        """Read a few bytes, with those that are likely to be asked for next."""
        offset = begin - self._chunk_at
        if offset < 0 or end - self._chunk_at > len(self._chunk):
            self._chunk = os.pread(self._file, max(_CHUNK, end - begin), begin)
            self._chunk_at, offset = begin, 0
            if len(self._chunk) < end - begin:
                raise ModelFileError(f"expected bytes {begin} to {end}, found the end of the file")
        return self._chunk[offset : offset + end - begin]

    def text(self, span: Span, limit: int, what: str) -> str:
        """Return a text.

        Args:
            span: Where it is.
            limit: Its length at most, in bytes.
            what: What it is, for the error.

        Raises:
            ModelFileError: It is longer, or not UTF-8.
        """
        if span.size > limit:
            raise ModelFileError(f"expected {what} of at most {limit} bytes, found {span.size}")
        try:
            return self._near(span.begin, span.end).decode()
        except UnicodeDecodeError as error:
            raise ModelFileError(f"expected UTF-8 in {what}, found other bytes") from error

    def numbers(self, span: Span, limit: int) -> list[int]:
        """Return packed numbers, each as the format's int64.

        Raises:
            ModelFileError: There are more than `limit`, or they are not well formed.
        """
        found: list[int] = []
        at = span.begin
        while at < span.end:
            if len(found) == limit:
                raise ModelFileError(f"expected at most {limit} numbers at byte {at}, found more")
            value, at = self._varint(at, span.end)
            found.append(value - _VALUES if value >= _VALUES >> 1 else value)
        return found

    def count(self, span: Span) -> int:
        """Return how many packed numbers there are: each has one byte whose highest bit is 0."""
        found = 0
        for at in range(span.begin, span.end, _COUNTED):
            data = os.pread(self._file, min(_COUNTED, span.end - at), at)
            found += len(data.translate(None, _MORE))
        return found
