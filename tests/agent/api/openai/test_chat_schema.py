"""What a request may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.api.faults import ApiError
from sprat_agent.api.openai import chat_schema as schema
from sprat_agent.runtime.wire import Conversation, Message, Request, Sampling, Tool, ToolCall

ASK: dict[str, Any] = {"model": "a", "messages": [{"role": "user", "content": "Hi"}]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "of a place", "parameters": {"type": "object"}},
}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def parse(**more: Any) -> schema.Request:
    return schema.parse(json.dumps({**ASK, **more}).encode())


def meaning(**more: Any) -> Request:
    (asked,) = schema.meaning(parse(**more))
    return asked


def fault_of(body: bytes) -> int | None:
    try:
        schema.meaning(schema.parse(body))
    except ApiError as error:
        return error.status if error.message else None
    return None


def fault(**more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        schema.meaning(parse(**more))
    return caught.value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_one_clear_error(body: bytes) -> None:
    assert fault_of(body) in {None, 400}


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_in_any_field_is_taken_or_one_clear_error(value: Any) -> None:
    for name in schema.Request.__struct_fields__:
        assert fault_of(json.dumps({**ASK, name: value}).encode()) in {None, 400}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("functions", [{"name": "f"}]),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "x"}),
        ("prediction", {"type": "content"}),
        ("web_search_options", {}),
    ],
)
def test_what_would_change_the_answer_and_is_not_supported_is_refused(
    field: str, value: object
) -> None:
    error = fault(**{field: value})
    assert (error.code, error.param) == ("unsupported_parameter", field)
    assert "not supported by this device" in error.message


@pytest.mark.parametrize(
    "given_fields",
    [
        {"n": 1, "tools": [], "response_format": {"type": "text"}, "logprobs": False},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "audio": None},
        {"user": "me", "metadata": {"a": "b"}, "store": False, "tool_choice": "none"},
        {"modalities": ["text"], "reasoning_effort": "low", "stream_options": None},
    ],
)
def test_what_asks_for_nothing_is_accepted(given_fields: dict[str, Any]) -> None:
    assert meaning(**given_fields).prompt == Conversation((Message("user", "Hi"),))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("top_p", 0),
        ("max_tokens", 0),
        ("max_completion_tokens", 1.5),
        ("stop", ["a"] * 5),
        ("stop", ""),
        ("seed", "x"),
        ("messages", []),
        ("messages", [{"role": "robot", "content": "Hi"}]),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    error = fault(**{field: value})
    assert (error.status, error.param) == (400, field)


def test_a_misspelt_field_is_refused_by_name() -> None:
    assert "`max_token`" in fault(max_token=3).message


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "42"},
        {"role": "function", "content": "42", "name": "f"},
        {"role": "user", "content": "", "tool_calls": [CALL]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user", "content": None},
        {"role": "user", "content": []},
    ],
)
def test_a_message_that_is_not_text_is_refused_by_its_place(message: dict[str, Any]) -> None:
    error = fault(messages=[*ASK["messages"], message])
    assert error.param == "messages[1]"


def test_text_parts_are_joined_and_developers_speak_as_the_system() -> None:
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]
    messages = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]
    assert meaning(messages=messages).prompt == Conversation(
        (Message("system", "Be kind."), Message("user", "Hello there"))
    )


def test_the_newer_name_of_the_limit_wins() -> None:
    assert meaning(max_tokens=5, max_completion_tokens=9).max_tokens == 9


def test_penalties_and_biases_reach_the_sampler() -> None:
    asked = meaning(presence_penalty=0.5, frequency_penalty=-0.5, logit_bias={"5": 1})
    expected = Sampling(presence_penalty=0.5, frequency_penalty=-0.5, logit_bias=((5, 1.0),))
    assert asked.sampling == expected


def test_what_other_servers_understand_reaches_the_sampler_too() -> None:
    asked = meaning(top_k=0, min_p=0.1, repetition_penalty=1.1)
    assert asked.sampling == Sampling(top_k=0, min_p=0.1, repeat_penalty=1.1)


def test_each_choice_is_a_request_with_a_seed_of_its_own() -> None:
    asked = schema.meaning(parse(n=3, seed=(1 << 63) - 2))
    seeds = [one.sampling.seed for one in asked]
    assert seeds == [(1 << 63) - 2, (1 << 63) - 1, -(1 << 63)]
    assert [one.sampling.seed for one in schema.meaning(parse(n=2))] == [None, None]


def test_tools_and_their_use_reach_the_engine() -> None:
    asked = meaning(tools=[WEATHER], parallel_tool_calls=False).prompt
    assert isinstance(asked, Conversation)
    assert asked.tools == (Tool("weather", "of a place", {"type": "object"}),)
    assert (asked.tool_choice, asked.is_parallel) == ("auto", False)


@pytest.mark.parametrize(
    ("wanted", "choice"),
    [
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "weather"}}, "weather"),
    ],
)
def test_the_choice_of_a_tool_is_a_mode_or_a_name(wanted: object, choice: str) -> None:
    asked = meaning(tools=[WEATHER], tool_choice=wanted).prompt
    assert isinstance(asked, Conversation)
    assert asked.tool_choice == choice


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "auto"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"n": 9}, "n"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    error = fault(**fields)
    assert (error.status, error.param) == (400, param)


def test_a_turn_with_calls_and_their_results_reaches_the_template() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "no"},
    ]
    assert meaning(messages=turns).prompt == Conversation(
        (
            Message("user", "Rain?"),
            Message("assistant", "", (ToolCall("c1", "weather", "{}"),)),
            Message("tool", "no", tool_call_id="c1"),
        )
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}},
            {"type": "array"},
        ),
    ],
)
def test_a_response_format_is_a_schema(wanted: dict[str, Any], expected: object) -> None:
    assert meaning(response_format=wanted).schema == expected


def test_log_probabilities_are_asked_for_with_or_without_alternatives() -> None:
    assert meaning().logprobs is None
    assert meaning(logprobs=True).logprobs == 0
    assert meaning(logprobs=True, top_logprobs=20).logprobs == 20


def test_arguments_for_the_template_reach_it() -> None:
    asked = meaning(chat_template_kwargs={"enable_thinking": False}).prompt
    assert isinstance(asked, Conversation)
    assert asked.template_arguments == {"enable_thinking": False}


@pytest.mark.parametrize("bias", [{"x": 1}, {"-1": 1}, {"5": 101}, {str(1 << 31): 1}])
def test_a_bias_on_what_is_no_token_or_beyond_its_range_is_refused(bias: dict[str, float]) -> None:
    assert fault(logit_bias=bias).param == "logit_bias"
