"""The Responses API, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.told_models import ToldModels
from sprat_agent.api.faults import ApiError
from sprat_agent.api.openai import response_schema
from sprat_agent.runtime import faults
from sprat_agent.runtime.wire import (
    Conversation,
    Done,
    Message,
    Piece,
    Request,
    Tool,
    ToolCall,
    ToolCallPart,
)

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "assistant", "input": "Hi"}
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def meaning(**more: Any) -> Request:
    asked = response_schema.parse(json.dumps({**ASK, **more}).encode())
    return response_schema.meaning(asked)


def fault_of(**more: Any) -> int | None:
    try:
        meaning(**more)
    except ApiError as error:
        return error.status if error.message else None
    return None


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name for name, _ in blocks] == [f"event: {event['type']}" for event in events]
    return events


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_in_any_field_is_taken_or_one_clear_error(value: Any) -> None:
    for name in response_schema.Request.__struct_fields__:
        assert fault_of(**{name: value}) in {None, 400}


def test_items_are_turns_of_a_conversation() -> None:
    items: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "input_text", "text": "Rain?"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "[]"},
        {"type": "function_call_output", "call_id": "c1", "output": "no"},
    ]
    asked = meaning(input=items, instructions="Be kind.", tools=[WEATHER], tool_choice="required")
    calls = (ToolCall("c1", "weather", "{}"), ToolCall("c2", "weather", "[]"))
    assert asked.prompt == Conversation(
        (
            Message("system", "Be kind."),
            Message("user", "Rain?"),
            Message("assistant", "", calls),
            Message("tool", "no", tool_call_id="c1"),
        ),
        (Tool("weather", "", {"type": "object"}),),
        "required",
    )


def test_a_format_is_a_schema() -> None:
    wanted = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "array"}}}
    assert meaning(text=wanted).schema == {"type": "array"}
    assert meaning(text={"format": {"type": "json_object"}}).schema == {"type": "object"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tool_choice": {"type": "function", "name": "weather"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"content": [{"type": "input_image"}]}]}, "input[0]"),
        ({"input": [{"role": "user"}]}, "input[0]"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_field(
    http: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await http.post(PATH, json={**ASK, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_limit_makes_it_incomplete(http: httpx.AsyncClient, told: ToldModels) -> None:
    told.done = Done(1, "length", 3, 2, 10.0, 20.0, cached_tokens=1)
    body = (await http.post(PATH, json=ASK)).json()
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["usage"]["input_tokens_details"] == {"cached_tokens": 1}
    assert body["output"][0]["content"][0]["text"] == "Hello there"


async def test_a_stream_tells_the_same_as_the_whole(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = (
        Piece(1, "Let me "),
        Piece(1, "see.", (ToolCallPart(0, "c0", "weather", '{"pl'),)),
        Piece(1, "", (ToolCallPart(0, arguments='ace":1}'), ToolCallPart(1, "c1", "weather"))),
    )
    told.done = Done(1, "tool_calls", 3, 2, 10.0, 20.0)
    whole = (await http.post(PATH, json={**ASK, "tools": [WEATHER]})).json()
    streamed = await http.post(PATH, json={**ASK, "tools": [WEATHER], "stream": True})
    events = events_of(streamed)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    told_whole, told_last = whole["output"], events[-1]["response"]["output"]
    for item in (*told_whole, *told_last):
        del item["id"]
    assert told_whole == told_last
    assert [item.get("arguments") for item in told_whole] == [None, '{"place":1}', ""]
    assert whole["status"] == "completed"


async def test_an_empty_answer_is_an_empty_message(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = ()
    events = events_of(await http.post(PATH, json={**ASK, "stream": True}))
    (item,) = events[-1]["response"]["output"]
    assert item["content"][0]["text"] == ""


async def test_what_goes_wrong_in_mid_stream_is_its_last_event(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = ("Hello ", faults.WorkerCrashedError("the worker died"))
    events = events_of(await http.post(PATH, json={**ASK, "stream": True}))
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "worker_crashed")
