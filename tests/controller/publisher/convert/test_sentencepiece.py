from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    TextPiece,
    parse,
)

_BYTE_PAIRS = b"\x12\x02\x18\x02"  # field 2 (the trainer's), in it field 3: model type 2


def piece(text: bytes, score: float = 0.0, kind: int = NORMAL) -> bytes:
    inner = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score)
    inner += b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(inner)]) + inner


def test_pieces_are_read_in_the_order_of_their_ids() -> None:
    data = piece(b"<s>", kind=CONTROL) + piece(b"<0x00>", kind=BYTE)
    found = parse(data + piece("▁a".encode(), -2.5) + _BYTE_PAIRS)
    assert found.pieces == (
        TextPiece("<s>", 0.0, CONTROL),
        TextPiece("<0x00>", 0.0, BYTE),
        TextPiece("▁a", -2.5, NORMAL),
    )
    assert found.has_prefix


def test_a_piece_without_a_type_is_a_normal_one() -> None:
    assert parse(b"\x0a\x03\x0a\x01a" + _BYTE_PAIRS).pieces == (TextPiece("a", 0.0, NORMAL),)


def test_a_normalizer_may_say_that_no_space_goes_first() -> None:
    assert not parse(piece(b"a") + _BYTE_PAIRS + b"\x1a\x02\x18\x00").has_prefix


def test_other_fields_are_passed_over() -> None:
    others = b"\x22\x01x" + b"\x2d" + b"\x00" * 4 + b"\x31" + b"\x00" * 8 + b"\x38\xff\x01"
    assert len(parse(others + piece(b"a") + _BYTE_PAIRS).pieces) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "pieces, found none"),
        (_BYTE_PAIRS, "pieces, found none"),
        (piece(b"a"), "byte pairs (type 2), found type 1"),
        (piece(b"a") + b"\x12\x02\x18\x03", "found type 3"),
        (piece(b"") + _BYTE_PAIRS, "pieces with a text"),
        (piece(b"\xff") + _BYTE_PAIRS, "UTF-8"),
        (piece(b"a", float("nan")) + _BYTE_PAIRS, "a score"),
        (piece(b"a", kind=7) + _BYTE_PAIRS, "a type"),
        (piece(b"a")[:-1], "whole fields"),
        (b"\x0a", "whole numbers"),
        (b"\x80" * 11, "whole numbers"),
        (b"\x08\x01", "messages as its fields"),
        (b"\x0b", "wire types"),
    ],
)
def test_what_is_no_model_of_byte_pairs_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ConvertError) as caught:
        parse(data)
    assert said in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    said = "read"
    try:
        parse(data)
    except ConvertError as error:
        said = str(error)
    assert said == "read" or said.startswith("expected tokenizer.model to have ")
