"""What a request may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.api.faults import ApiError
from sprat_agent.api.openai import chat_schema as schema
from sprat_agent.runtime.wire import Conversation, Message, Sampling

ASK: dict[str, Any] = {"model": "a", "messages": [{"role": "user", "content": "Hi"}]}


def parse(**more: Any) -> schema.Request:
    return schema.parse(json.dumps({**ASK, **more}).encode())


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
        ("n", 2),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("functions", [{"name": "f"}]),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("top_logprobs", 3),
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
    assert schema.meaning(parse(**given_fields)).prompt == Conversation((Message("user", "Hi"),))


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
        {"role": "tool", "content": "42", "tool_call_id": "1"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
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
    assert schema.meaning(parse(messages=messages)).prompt == Conversation(
        (Message("system", "Be kind."), Message("user", "Hello there"))
    )


def test_the_newer_name_of_the_limit_wins() -> None:
    assert schema.meaning(parse(max_tokens=5, max_completion_tokens=9)).max_tokens == 9


def test_penalties_and_biases_reach_the_sampler() -> None:
    asked = parse(presence_penalty=0.5, frequency_penalty=-0.5, logit_bias={"5": 1})
    expected = Sampling(presence_penalty=0.5, frequency_penalty=-0.5, logit_bias=((5, 1.0),))
    assert schema.meaning(asked).sampling == expected


@pytest.mark.parametrize("bias", [{"x": 1}, {"-1": 1}, {"5": 101}, {str(1 << 31): 1}])
def test_a_bias_on_what_is_no_token_or_beyond_its_range_is_refused(bias: dict[str, float]) -> None:
    assert fault(logit_bias=bias).param == "logit_bias"
