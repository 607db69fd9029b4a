"""Answers that may call tools, in each format that models write calls in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simulators.byte_vocabulary import BYTES, EOS, ByteVocabulary
from simulators.schemas import objects
from simulators.walking import walk
from sprat_agent.runtime.wire import Conversation, Request, Tool
from sprat_agent.worker.decoding.begin import Decodings, new_id
from sprat_agent.worker.decoding.decoding import Decoding, Part
from sprat_agent.worker.engine import EngineError

MARKS = ("[TOOL_CALLS]", "<|python_tag|>", "[ARGS]", "[CALL_ID]")
VOCABULARY = ByteVocabulary(controls=MARKS, words=[b'{"', b'": ', b'", "', b'"}', b"<tool_call>"])
PLAIN = ByteVocabulary()  # its marks are no tokens of their own
WEATHER = Tool(
    "weather",
    parameters={
        "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["days"],
        "additionalProperties": False,
    },
)
TIME = Tool(
    'ti"me é', parameters={"type": "object", "properties": {}, "additionalProperties": False}
)
TOOLS = (WEATHER, TIME)
BAD = Tool("bad", parameters={"properties": {"a": {"type": "array", "uniqueItems": True}}})


@dataclass(frozen=True)
class Answered:
    text: str
    calls: tuple[tuple[str, str, str], ...]  # id, name, arguments
    finish: str


IN_TAGS = "<tool_call> <function= <parameter="  # where texts have no end but their tag
TWO = (("id 0", "weather", '{"days": 2}'), ("id 1", 'ti"me é', "{}"))
FORMS = {
    "<tool_call>": (
        '<tool_call>\n{"name": "weather", "arguments": {"days": 2}}\n</tool_call>\n'
        '<tool_call>{"name":"ti\\"me é","arguments":{}}</tool_call>'
    ),
    "[TOOL_CALLS]": (
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"days": 2}},'
        ' {"name": "ti\\"me é", "arguments": {}}]'
    ),
    "[TOOL_CALLS] [ARGS]": ('[TOOL_CALLS]weather[ARGS]{"days": 2}[TOOL_CALLS]ti"me é[ARGS]{}'),
    "[TOOL_CALLS] [CALL_ID] [ARGS]": (
        '[TOOL_CALLS]weather[CALL_ID]a1b2c3d4e[ARGS]{"days": 2}'
        '[TOOL_CALLS]ti"me é[CALL_ID]a1b2c3d4f[ARGS]{}'
    ),
    IN_TAGS: (
        "<tool_call>\n<function=weather>\n<parameter=days>\n2\n</parameter>\n</function>\n"
        '</tool_call>\n<tool_call><function=ti"me é></function></tool_call>'
    ),
    "<|python_tag|>": (
        '<|python_tag|>{"name": "weather", "parameters": {"days": 2}};'
        ' {"type": "function", "name": "ti\\"me é", "parameters": {}}'
    ),
    "no format": (
        '<tool_call>{"name": "weather", "arguments": {"days": 2}}</tool_call>'
        '<tool_call>{"name": "ti\\"me é", "arguments": {}}</tool_call>'
    ),
}

# What comes after the first call, and what ends an answer of only that.
ENDS = {
    "[TOOL_CALLS]": (", {", "]"),
    "<|python_tag|>": (";", ""),
    "<tool_call>": ("\n<tool_call>{", ""),
    IN_TAGS: ("\n<tool_call><", ""),
    "no format": ('<tool_call>{"name": "ti', ""),
}


def begin(
    template: str,
    choice: str = "auto",
    *,
    tools: tuple[Tool, ...] = TOOLS,
    vocabulary: ByteVocabulary = VOCABULARY,
    is_parallel: bool = True,
    **more: Any,
) -> Decoding:
    numbers = count()
    decodings = Decodings(vocabulary, template, lambda: f"id {next(numbers)}")
    return decodings.begin(Request(Conversation((), tools, choice, is_parallel), **more))


def answered(decoding: Decoding, tokens: Iterable[int]) -> Answered:
    parts: list[Part] = []
    for token in tokens:
        if decoding.is_over:
            break
        parts.append(decoding.take(token))
    parts.append(decoding.end())
    return Answered("".join(part.text for part in parts), calls_of(parts), decoding.finish)


def calls_of(parts: Iterable[Part]) -> tuple[tuple[str, str, str], ...]:
    calls: list[tuple[str, str, str]] = []
    for part in (call for one in parts for call in one.tool_calls):
        if part.name:
            calls.append((part.id, part.name, part.arguments))
        else:
            one, name, arguments = calls[part.index]
            calls[part.index] = (one, name, arguments + part.arguments)
    return tuple(calls)


def said(decoding: Decoding, text: str, vocabulary: ByteVocabulary = VOCABULARY) -> Answered:
    return answered(decoding, vocabulary.tokenize(text, has_special=True))


@pytest.mark.parametrize("vocabulary", [VOCABULARY, PLAIN])
@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("template", FORMS)
def test_calls_are_read_in_each_format(
    template: str, choice: str, vocabulary: ByteVocabulary
) -> None:
    found = said(begin(template, choice, vocabulary=vocabulary), FORMS[template], vocabulary)
    assert found == Answered("", TWO, "tool_calls")


# One token has the calls' beginning and half of a character of theirs.
_IN_THE_NAME = f"Lét me see: {FORMS['<|python_tag|>']}".encode().rindex("é".encode()) + 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.lists(st.integers(0, 200), max_size=12))
@example("<|python_tag|>", [_IN_THE_NAME])
def test_calls_are_read_the_same_from_tokens_cut_anywhere(template: str, places: list[int]) -> None:
    data = f"Lét me see: {FORMS[template]}".encode()
    pieces = [data[a:b] for a, b in pairwise([0, *sorted(places), len(data)])]
    vocabulary = ByteVocabulary(words=[piece for piece in pieces if piece])
    first = vocabulary.size - sum(map(bool, pieces))
    found = answered(begin(template, vocabulary=vocabulary), range(first, vocabulary.size))
    assert found == Answered("Lét me see: ", TWO, "tool_calls")


def test_an_answer_may_begin_with_a_bare_call_in_llamas_format() -> None:
    bare = '\n{"name": "weather", "parameters": {"days": 2}}'
    assert said(begin("<|python_tag|>"), bare) == Answered("", TWO[:1], "tool_calls")


@pytest.mark.parametrize("template", FORMS)
def test_an_answer_without_calls_is_text_and_not_constrained(template: str) -> None:
    decoding = begin(template)
    text = 'It < is [TOOL {"name": "x"} <tool_'
    assert said(decoding, text) == Answered(text, (), "stop")
    assert not decoding.is_constrained
    assert not decoding.is_over


def test_calls_are_constrained_from_their_beginning_on() -> None:
    decoding = begin("<tool_call>")
    said(decoding, "Well <tool_call>")
    assert decoding.is_constrained
    with pytest.raises(EngineError, match="left its grammar"):
        decoding.take(ord("x"))


def test_what_begins_like_a_call_in_one_token_and_is_none_is_text() -> None:
    vocabulary = ByteVocabulary(words=[b"<tool_call>s are", "<tool_call>é".encode()[:-1]])
    decoding = begin("<tool_call>", vocabulary=vocabulary)
    tokens = [vocabulary.size - 2, ord(" "), vocabulary.size - 1, 0xA9]
    assert answered(decoding, tokens) == Answered("<tool_call>s are <tool_call>é", (), "stop")
    assert not decoding.is_constrained


@pytest.mark.parametrize("template", FORMS)
def test_an_answer_may_end_after_a_call_and_a_line_break(template: str) -> None:
    decoding = begin(template)
    after = "" if template == "[TOOL_CALLS]" else "\n"
    assert said(decoding, FORMS[template] + after).calls == TWO
    row = np.zeros(VOCABULARY.size, np.float32)
    decoding.mask(row)
    assert row[EOS] == 0
    assert row[ord("x")] == -np.inf


@pytest.mark.parametrize("template", FORMS)
def test_without_parallel_calls_one_is_all(template: str) -> None:
    decoding = begin(template, is_parallel=False)
    cut, last = ENDS.get(template, ("[TOOL_CALLS]ti", ""))
    first = FORMS[template].partition(cut)[0] + last
    assert said(decoding, first).calls == TWO[:1]
    assert decoding.is_over


def test_tools_that_may_not_be_called_leave_text() -> None:
    decoding = begin("<tool_call>", "none")
    assert said(decoding, FORMS["<tool_call>"]) == Answered(FORMS["<tool_call>"], (), "stop")


@pytest.mark.parametrize("template", FORMS)
def test_the_one_function_that_is_asked_for_is_called(template: str) -> None:
    for seed in range(5):
        parts = walk(begin(template, TIME.name, is_parallel=False), VOCABULARY, seed)
        assert parts is not None
        ((_, name, arguments),) = calls_of(parts)
        assert name == TIME.name
        assert json.loads(arguments) == {}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(set(FORMS) - {IN_TAGS})),
    st.lists(objects(), min_size=1, max_size=2),
    st.integers(0, 99),
)
def test_whatever_the_mask_leaves_is_a_call_of_a_tool_by_its_schema(
    template: str, schemas: list[dict[str, Any]], seed: int
) -> None:
    tools = {f"tool {at}": schema for at, schema in enumerate(schemas)}
    asked = tuple(Tool(name, parameters=schema) for name, schema in tools.items())
    decoding = begin(template, "required", tools=asked, is_parallel=False)
    parts = walk(decoding, VOCABULARY, seed)
    assert parts is not None
    ((_, name, arguments),) = calls_of(parts)
    jsonschema.validate(json.loads(arguments), tools[name], jsonschema.Draft202012Validator)
    assert not any(part.text for part in parts)
    assert decoding.finish == "tool_calls"


@pytest.mark.parametrize("template", FORMS)
def test_an_answer_is_by_its_schema_or_else_a_call(template: str) -> None:
    schema = {"enum": ["<tool_call>", {"name": "weather", "parameters": {"days": 2}}]}
    assert begin(template, schema=schema).is_constrained
    for text in ('"<tool_call>"', '{"name": "weather", "parameters": {"days": 2}}'):
        assert said(begin(template, schema=schema), text) == Answered(text, (), "stop")
    found = said(begin(template, schema=schema), FORMS[template])
    assert found == Answered("", TWO, "tool_calls")


def test_a_stop_string_counts_in_the_text_only() -> None:
    decoding = begin("<tool_call>", stop=("days",))
    assert said(decoding, FORMS["<tool_call>"]).calls == TWO
    decoding = begin("<tool_call>", stop=("days",))
    found = said(decoding, "two days" + FORMS["<tool_call>"])
    assert found == Answered("two ", (), "stop")
    assert decoding.is_over
    assert decoding.stopped_by == "days"


def test_what_was_held_back_for_a_stop_string_is_shown_before_a_call() -> None:
    decoding = begin("<tool_call>", stop=("see!",))
    found = said(decoding, "I see" + FORMS["<tool_call>"])
    assert found == Answered("I see", TWO, "tool_calls")


def test_a_control_token_is_allowed_where_calls_begin_with_one() -> None:
    decoding = begin("[TOOL_CALLS]", "required")
    decoding.take(BYTES + 2)
    with pytest.raises(EngineError):
        begin("[TOOL_CALLS]", "required").take(ord("["))


@pytest.mark.parametrize("choice", ["auto", "required", "bad"])
def test_a_tool_whose_schema_cannot_be_held_to_is_refused_at_once(choice: str) -> None:
    with pytest.raises(
        EngineError, match=r"the tools' arguments: Unimplemented keys: ..uniqueItems"
    ) as caught:
        begin("<tool_call>", choice, tools=(BAD,))
    assert caught.value.code == "not_supported"


def test_parameters_that_are_no_objects_are_refused() -> None:
    with pytest.raises(EngineError, match="parameters of 'a' to be of type object, found 'array'"):
        begin("<tool_call>", tools=(Tool("a", parameters={"type": "array"}),))


@pytest.mark.parametrize("choice", ["required", "unknown"])
def test_a_call_of_no_tool_is_refused(choice: str) -> None:
    with pytest.raises(EngineError, match=f"found none for tool_choice '{choice}'"):
        begin("<tool_call>", choice, tools=TOOLS if choice == "unknown" else ())


def test_ids_are_made_of_enough_chance() -> None:
    assert len({new_id() for _ in range(9)}) == 9
    assert len(new_id()) == len("call_") + 24
