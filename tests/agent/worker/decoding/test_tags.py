"""Calls in tags: values as they are, or JSON, by the schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import count, pairwise
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.byte_vocabulary import ByteVocabulary
from simulators.walking import walk
from sprat_agent.runtime.wire import Conversation, Request, Tool, ToolCallPart
from sprat_agent.worker.decoding.begin import Decodings
from sprat_agent.worker.decoding.decoding import Decoding
from sprat_agent.worker.decoding.tags import TagReader, is_text
from sprat_agent.worker.engine import EngineError

TEMPLATE = "<tool_call> <function= <parameter="
VOCABULARY = ByteVocabulary()
NOTE = Tool(
    "note",
    parameters={
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "tone": {"enum": ["kind", "dry"]},
            "where": {"$ref": "#/$defs/place"},
        },
        "required": ["text", "days"],
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 5}},
                "required": ["x"],
                "additionalProperties": False,
            }
        },
    },
)
# The same without what a model that knows nothing would say for ever.
BOUNDED = Tool(
    "bounded",
    parameters={
        **NOTE.parameters,
        "properties": {
            name: one for name, one in NOTE.parameters["properties"].items() if name != "text"
        },
        "required": ["days"],
    },
)
TEXTS = st.text('ab"\\{}é</>\n', max_size=12).filter(
    lambda text: "</parameter>" not in f"{text}</" and not text.startswith("\n")
)


def reader(tool: Tool = NOTE) -> TagReader:
    numbers = count()
    return TagReader([tool], lambda: f"id {next(numbers)}")


def written(values: Mapping[str, Any]) -> str:
    """Return a call as such models write it."""
    parameters = "".join(
        f"<parameter={name}>\n{one if isinstance(one, str) else json.dumps(one)}\n</parameter>\n"
        for name, one in values.items()
    )
    return f"<tool_call>\n<function=note>\n{parameters}</function>\n</tool_call>"


def arguments_of(parts: Iterable[ToolCallPart]) -> list[tuple[str, str, Any]]:
    """Return each call's id, name and arguments."""
    calls: list[tuple[str, str, str]] = []
    for part in parts:
        if part.name:
            calls.append((part.id, part.name, ""))
        else:
            one, name, arguments = calls[part.index]
            calls[part.index] = (one, name, arguments + part.arguments)
    return [(one, name, json.loads(arguments)) for one, name, arguments in calls]


def begin(tool: Tool = NOTE, choice: str = "required") -> Decoding:
    decodings = Decodings(VOCABULARY, TEMPLATE, lambda: "id")
    return decodings.begin(Request(Conversation((), (tool,), choice, is_parallel=False)))


def is_allowed(text: str) -> bool:
    decoding = begin()
    try:
        for token in VOCABULARY.tokenize(text, has_special=True):
            decoding.take(token)
    except EngineError:
        return False
    return decoding.is_over


@given(
    st.lists(
        st.fixed_dictionaries(
            {"text": TEXTS, "days": st.integers(1, 9)},
            optional={"tone": st.sampled_from(["kind", "dry"]), "where": st.just({"x": 3})},
        ),
        max_size=3,
    ),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_values_are_read_the_same_however_their_text_is_cut(
    calls: list[dict[str, Any]], places: list[int]
) -> None:
    text, one = "\n".join(map(written, calls)), reader()
    pieces = [text[a:b] for a, b in pairwise([0, *sorted(places), len(text)])]
    found = arguments_of(part for piece in pieces for part in one.feed(piece))
    assert found == [(f"id {at}", "note", values) for at, values in enumerate(calls)]
    assert one.count == len(calls)


def test_a_text_is_told_as_it_comes() -> None:
    one = reader()
    assert one.feed("<tool_call><function=note") == ()
    assert one.feed("><parameter=text>") == (
        ToolCallPart(0, "id 0", "note"),
        ToolCallPart(0, arguments="{"),
    )
    assert one.feed('\na "b"\n') == (
        ToolCallPart(0, arguments='"text": '),
        ToolCallPart(0, arguments='"a \\"b\\"'),
    )
    assert one.feed("c") == (ToolCallPart(0, arguments="\\nc"),)
    assert one.feed("\n</parameter></function>") == (
        ToolCallPart(0, arguments='"'),
        ToolCallPart(0, arguments="}"),
    )


def test_json_may_contain_what_ends_a_value() -> None:
    values = {"where": {"x": "</parameter>"}}
    assert arguments_of(reader().feed(written(values))) == [("id 0", "note", values)]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, True),
        ({"type": ["string", "null"]}, True),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, True),
        ({}, True),
        ({"enum": ["a", "b"]}, True),
        ({"const": "a"}, True),
        ({"type": "integer"}, False),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, False),
        ({"enum": ["a", 1]}, False),
        ({"const": 1}, False),
        ({"$ref": "#/$defs/a"}, False),
    ],
)
def test_what_a_schema_allows_tells_how_values_are_written(
    schema: dict[str, Any], *, expected: bool
) -> None:
    assert is_text(schema) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"text": "what < you </ like >", "days": 3}, True),
        ({"text": "", "days": 3, "tone": "dry", "where": {"x": 5}}, True),
        ({"text": "days are missing"}, False),
        ({"text": "too many", "days": 10}, False),
        ({"text": "in no tone", "days": 3, "tone": "rude"}, False),
        ({"text": "nowhere", "days": 3, "where": {"x": 6}}, False),
        ({"text": "more", "days": 3, "more": 1}, False),
    ],
)
def test_calls_are_held_to_the_parameters_of_their_tool(
    values: dict[str, Any], *, expected: bool
) -> None:
    assert is_allowed(written(values)) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": []},
        {"properties": {"a": {"enum": 5}}},
        {"properties": {"a": {"anyOf": 5}}},
        {"properties": {"a": {"type": 5}}},
        {"properties": {"a": {}}, "required": 5},
        {"properties": {"a>b": {}}},
        {"properties": {"a": {"type": "array", "uniqueItems": True}}},
    ],
)
def test_what_is_no_schema_or_cannot_be_held_to_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as caught:
        begin(Tool("a", parameters=parameters))
    assert caught.value.code == "not_supported"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999))
def test_whatever_the_mask_leaves_is_a_call_by_the_schema(seed: int) -> None:
    parts = walk(begin(BOUNDED), VOCABULARY, seed)
    assert parts is not None
    ((_, name, arguments),) = arguments_of(one for part in parts for one in part.tool_calls)
    assert name == "bounded"
    jsonschema.validate(arguments, BOUNDED.parameters, jsonschema.Draft202012Validator)
