"""A reader of SentencePiece's `tokenizer.model`: the few fields that a conversion needs.

The file is a protobuf message (github.com/google/sentencepiece, sentencepiece_model.proto, read in
version 0.2): pieces are its field 1, the trainer's settings 2, the normalizer's 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sprat_controller.publisher.convert.config import MAX_VOCABULARY
from sprat_controller.publisher.convert.errors import ConvertError

NORMAL: Final = 1
UNKNOWN: Final = 2
CONTROL: Final = 3
USER_DEFINED: Final = 4
UNUSED: Final = 5
BYTE: Final = 6

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3  # of a piece
_MODEL_TYPE: Final = 3  # of the trainer
_DUMMY_PREFIX: Final = 3  # of the normalizer
_UNIGRAM, _BPE = 1, 2
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_MAX_VARINT_BITS: Final = 63


@dataclass(frozen=True)
class TextPiece:
    """One token."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class SentencePieces:
    """A vocabulary; the index of a piece is its token id."""

    pieces: tuple[TextPiece, ...]
    has_prefix: bool  # a space before each text


def parse(data: bytes) -> SentencePieces:
    """Return what a `tokenizer.model` says.

    Raises:
        ConvertError: It is no such file, or not of byte pairs.
    """
    pieces: list[TextPiece] = []
    model_type, has_prefix = _UNIGRAM, True
    for number, value in _fields(memoryview(data)):
        if number == _PIECES:
            if len(pieces) == MAX_VOCABULARY:
                raise _error(f"at most {MAX_VOCABULARY} pieces, found more")
            pieces.append(_piece(_message(value)))
        elif number == _TRAINER:
            model_type = _number(_message(value), _MODEL_TYPE, _UNIGRAM)
        elif number == _NORMALIZER:
            has_prefix = bool(_number(_message(value), _DUMMY_PREFIX, 1))
    if not pieces:
        raise _error("pieces, found none")
    if model_type != _BPE:
        raise _error(f"a model of byte pairs (type {_BPE}), found type {model_type}")
    return SentencePieces(tuple(pieces), has_prefix)


_Value = int | memoryview


def _piece(data: memoryview) -> TextPiece:
    text, score, kind = "", 0.0, NORMAL
    for number, value in _fields(data):
        if number == _TEXT:
            try:
                text = str(_message(value), "utf-8")
            except UnicodeDecodeError as error:
                raise _error("pieces in UTF-8, found other bytes") from error
        elif (
            number == _SCORE
            and isinstance(value, memoryview)
            and len(value) == struct.calcsize("f")
        ):
            score = struct.unpack("<f", value)[0]
        elif number == _TYPE and isinstance(value, int):
            kind = value
    if not text or not NORMAL <= kind <= BYTE or not math.isfinite(score):
        raise _error(f"pieces with a text, a score and a type, found {text[:64]!r}")
    return TextPiece(text, score, kind)


def _number(data: memoryview, wanted: int, default: int) -> int:
    found = default
    for number, value in _fields(data):
        if number == wanted and isinstance(value, int):
            found = value
    return found


def _message(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise _error("messages as its fields, found a number")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, _Value]]:
    """Walk through the fields of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in {_FOUR, _EIGHT}:
            length = 4 if wire == _FOUR else 8
        else:
            raise _error(f"the wire types of a protobuf, found {wire}")
        if length > len(data) - at:
            raise _error("whole fields, found the end of the file")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, _MAX_VARINT_BITS + 7, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the format's mark of a last byte
            return result, at
    raise _error("whole numbers, found the end of the file or too many bytes")


def _error(text: str) -> ConvertError:
    return ConvertError(f"expected tokenizer.model to have {text}")
