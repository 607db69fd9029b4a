"""An answer held to a schema satisfies it, whatever the model would like to say."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.byte_vocabulary import BYTES, EOS, ByteVocabulary
from simulators.schemas import schemas
from simulators.walking import walk
from sprat_agent.runtime.wire import Request, Text
from sprat_agent.worker.decoding.begin import Decodings
from sprat_agent.worker.decoding.decoding import Decoding
from sprat_agent.worker.engine import EngineError

VOCABULARY = ByteVocabulary(words=[b'{"', b'": ', b'", "', b'"}', b"12", b"]}", "é".encode()[:1]])
DECODINGS = Decodings(VOCABULARY, "")
Schema = dict[str, Any] | bool


def begin(schema: Schema, *stops: str) -> Decoding:
    return DECODINGS.begin(Request(Text("x"), schema=schema, stop=stops))


def written(decoding: Decoding, text: str) -> str:
    tokens = VOCABULARY.tokenize(text, has_special=False)
    return "".join([*(decoding.take(token).text for token in tokens), decoding.end().text])


def allowed(decoding: Decoding) -> set[int]:
    row = np.zeros(VOCABULARY.size, np.float32)
    decoding.mask(row)
    return {int(token) for token in np.flatnonzero(row == 0)}


def satisfies(schema: Schema, seed: int) -> Any:
    parts = walk(begin(schema), VOCABULARY, seed)
    assert parts is not None, "it did not end"
    value = json.loads("".join(part.text for part in parts))
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)
    return value


@settings(max_examples=60, deadline=None)
@given(schemas(), st.integers(0, 99))
def test_whatever_the_mask_leaves_satisfies_the_schema(schema: Schema, seed: int) -> None:
    satisfies(schema, seed)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": -3, "maximum": 17},
        {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
        {"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 20},
        {"type": "string", "pattern": "^[a-c]{2,4}-[0-9]+$", "maxLength": 8},
        {"type": "string", "format": "date"},
        {"anyOf": [{"type": "null"}, {"const": [1, {"a": "b"}]}]},
        {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]},
        {"type": "array", "prefixItems": [{"enum": [1]}], "items": False},
        {
            "$ref": "#/$defs/node",
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"$ref": "#/$defs/node"}, "ok": {"type": "boolean"}},
                    "required": ["ok"],
                    "additionalProperties": False,
                }
            },
        },
        {"type": "object", "additionalProperties": {"enum": [1, 2]}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "enum": ["a"]},
    ],
)
def test_what_a_schema_can_say_is_held_to(schema: Schema) -> None:
    for seed in range(20):
        satisfies(schema, seed)


@pytest.mark.parametrize("schema", [True, {}, {"type": "object"}])
def test_a_schema_of_anything_means_any_object(schema: Schema) -> None:
    for seed in range(5):
        assert isinstance(satisfies(schema, seed), dict)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (False, "found false"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater than maximum"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"$ref": "https://example.org/schema"}, "https://example.org/schema"),
        (
            {"type": "string", "pattern": r"(a)\1"},
            "JSON schema: regex parse error: error: backreferences are not",
        ),
        ({"type": "number!"}, "Invalid type: number!"),
        ({"uniqueItems": True, "x-guidance": {"lenient": True}}, "uniqueItems"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused(schema: Schema, why: str) -> None:
    with pytest.raises(EngineError) as caught:
        begin(schema)
    assert caught.value.code == "not_supported"
    assert why in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("depth", [500, 5000])
def test_a_schema_that_is_nested_too_deep_is_refused(depth: int) -> None:
    schema: Schema = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    with pytest.raises(EngineError) as caught:
        begin(schema)
    assert caught.value.code == "not_supported"


def test_an_answer_that_can_only_end_is_over() -> None:
    decoding = begin({"enum": ["yes", "no"]})
    assert decoding.is_constrained
    for char in b'"no':
        decoding.take(char)
        assert not decoding.is_over
    assert decoding.take(ord('"')).text == '"'
    assert decoding.is_over
    assert decoding.finish == "stop"


def test_the_end_may_come_only_where_the_answer_is_whole() -> None:
    decoding = begin({"type": "integer", "minimum": 1, "maximum": 19})
    assert EOS not in allowed(decoding)
    decoding.take(ord("1"))
    assert allowed(decoding) == {EOS, *b"0123456789"}
    assert not decoding.is_over


def test_tokens_of_several_bytes_are_allowed_where_their_bytes_are() -> None:
    names = {VOCABULARY.name(token) for token in allowed(begin({"type": "object"}))}
    assert {b"{", b'{"'} <= names
    assert b'"}' not in names


def test_a_token_that_is_not_allowed_is_refused() -> None:
    decoding = begin({"type": "object"})
    with pytest.raises(EngineError) as caught:
        decoding.take(ord("x"))
    assert caught.value.code == "engine_error"


def test_a_stop_string_ends_a_constrained_answer_too() -> None:
    decoding = begin({"type": "object"}, "b")
    assert written(decoding, '{"ab') == '{"a'
    assert decoding.is_over
    assert decoding.stopped_by == "b"


def test_white_space_does_not_go_on_for_ever() -> None:
    decoding = begin({"type": "object"})
    written(decoding, "{\n" + " " * 20)
    assert ord(" ") not in allowed(decoding)


def test_a_model_without_an_end_comes_to_one_all_the_same() -> None:
    endless = ByteVocabulary(has_end=False)
    schema = {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}
    decoding = Decodings(endless, "").begin(Request(Text("x"), schema=schema))
    parts = walk(decoding, endless, seed=0)
    assert parts is not None
    assert decoding.is_over


def test_a_row_longer_than_the_vocabulary_has_nothing_beyond_it() -> None:
    row = np.zeros(VOCABULARY.size + 64, np.float32)
    begin({"type": "object"}).mask(row)
    assert row[BYTES + 64 :].max() == -np.inf


@pytest.mark.parametrize("words", [[b" C"], [b"\n" + bytes([byte]) for byte in range(BYTES)]])
def test_a_vocabulary_that_puts_a_space_before_texts_writes_the_same(words: list[bytes]) -> None:
    spaced = ByteVocabulary(words=[b"Const", b" value", *words], is_spaced=True)
    schema = {"enum": ["Constant value one", "Constant value two", "é"]}
    decodings = Decodings(spaced, "")
    for seed in range(20):
        parts = walk(decodings.begin(Request(Text("x"), schema=schema)), spaced, seed)
        assert parts is not None
        assert json.loads("".join(part.text for part in parts)) in schema["enum"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": (1 << 53) + 1},
        {"type": "integer", "exclusiveMinimum": 1 << 63, "maximum": (1 << 63) + 5},
        {"type": "integer", "maximum": (1 << 53) + 3},
        {"type": "integer", "maximum": -(10**23)},
        {"type": "number", "minimum": 10**400},
        {"enum": ["a", (1 << 53) + 1]},
        {"type": "array", "items": {"anyOf": [{"const": -(1 << 53) - 1}]}},
    ],
)
def test_numbers_that_would_be_rounded_are_refused(schema: Schema) -> None:
    with pytest.raises(EngineError, match="so large a number exactly") as caught:
        begin(schema)
    assert caught.value.code == "not_supported"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": -(1 << 53) + 1, "maximum": (1 << 53) - 1},
        {"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1},
        {"enum": [1 << 53, 1 << 60, 0.1, True]},
        {"const": {"minimum": 1}},
    ],
)
def test_the_bounds_of_common_types_are_held_to(schema: Schema) -> None:
    for seed in range(3):
        satisfies(schema, seed)
