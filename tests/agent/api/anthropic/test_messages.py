"""What Anthropic's messages look like on the way in and out."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulators.told_models import DONE, ToldModels
from sprat_agent.api.anthropic.messages import Messages
from sprat_agent.api.faults import ApiError
from sprat_agent.runtime.faults import ModelLoadingError, QueueFullError, WorkerCrashedError
from sprat_agent.runtime.wire import Conversation, Piece, ToolCallPart

PATH = "/v1/messages"
ASK: dict[str, Any] = {
    "model": "assistant",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Hello"}],
}
TOOL = {"name": "weather", "description": "Tell it.", "input_schema": {"type": "object"}}


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    found: list[dict[str, Any]] = []
    for event in response.text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert told["type"] == name.removeprefix("event: ")
        found.append(told)
    return found


async def test_a_whole_answer_is_a_message(http: httpx.AsyncClient, told: ToldModels) -> None:
    told.done = msgspec.structs.replace(DONE, prompt_tokens=5, cached_tokens=2)
    response = await http.post(PATH, json=ASK)
    found = response.json()
    assert found.pop("timings")["decode_tps"] == 100
    assert found == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "assistant",
        "content": [{"type": "text", "text": "Hello there"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 2,
            "output_tokens": 2,
        },
    }
    assert response.headers["x-sprat-digest"] == "ab" * 32


@pytest.mark.parametrize(
    ("done", "reason", "sequence"),
    [
        (msgspec.structs.replace(DONE, finish="length"), "max_tokens", None),
        (msgspec.structs.replace(DONE, finish="tool_calls"), "tool_use", None),
        (msgspec.structs.replace(DONE, stopped_by="END"), "stop_sequence", "END"),
    ],
)
async def test_why_it_stopped_is_told(
    http: httpx.AsyncClient, told: ToldModels, done: Any, reason: str, sequence: str | None
) -> None:
    told.done = done
    found = (await http.post(PATH, json=ASK)).json()
    assert (found["stop_reason"], found["stop_sequence"]) == (reason, sequence)


async def test_a_stream_begins_continues_and_stops_each_block(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = [
        "Let me ",
        "see.",
        Piece(1, "", (ToolCallPart(0, "c0", "weather", '{"city"'),)),
        Piece(1, "", (ToolCallPart(0, arguments=":1}"), ToolCallPart(1, "c1", "now"))),
    ]
    told.done = msgspec.structs.replace(DONE, finish="tool_calls")
    found = events_of(await http.post(PATH, json={**ASK, "stream": True}))
    assert [(one["type"], one.get("index")) for one in found] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert found[0]["message"]["content"] == []
    assert found[5]["content_block"] == {
        "type": "tool_use",
        "id": "c0",
        "name": "weather",
        "input": {},
    }
    assert found[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert found[-2]["usage"]["output_tokens"] == 2
    assert found[-2]["timings"]["decode_tps"] == 100


async def test_everything_asked_reaches_the_model(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    asked = {
        **ASK,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "c0", "name": "weather", "input": {"city": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c0", "content": "rain"},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
        "tools": [TOOL],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "temperature": 0,
        "top_k": 7,
        "top_p": 0.5,
        "metadata": {"user_id": "someone"},
        "output_config": {
            "effort": "low",
            "format": {"type": "json_schema", "schema": {"type": "object"}},
        },
    }
    assert (await http.post(PATH, json=asked)).status_code == 200
    ((_, request),) = told.asked
    assert (request.max_tokens, request.stop) == (16, ("END",))
    assert request.schema == {"type": "object"}
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0, 7, 0.5)
    prompt = request.prompt
    assert isinstance(prompt, Conversation)
    assert (prompt.tool_choice, prompt.is_parallel) == ("weather", False)
    assert prompt.tools[0].parameters == {"type": "object"}
    assert [(one.role, one.content, one.tool_call_id) for one in prompt.messages] == [
        ("system", "Be brief.", ""),
        ("user", "Weather?", ""),
        ("assistant", "Let me see.", ""),
        ("tool", "rain", "c0"),
        ("user", "So?", ""),
    ]
    assert prompt.messages[2].tool_calls[0].arguments == '{"city":1}'


@pytest.mark.parametrize(
    ("choice", "meant"),
    [({"type": "auto"}, "auto"), ({"type": "any"}, "required"), ({"type": "none"}, "none")],
)
async def test_modes_of_calling_are_translated(
    http: httpx.AsyncClient, told: ToldModels, choice: dict[str, str], meant: str
) -> None:
    await http.post(PATH, json={**ASK, "tools": [TOOL], "tool_choice": choice})
    prompt = told.asked[0][1].prompt
    assert isinstance(prompt, Conversation)
    assert prompt.tool_choice == meant


def turn(role: str, **block: object) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": [block]}]}


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 0},
        {"max_tokens": None},
        {"temperature": 1.5},
        {"messages": []},
        {"stop_sequence": ["END"]},
        {"output_config": {"format": {"type": "regex"}}},
        {"mcp_servers": [{"url": "https://x"}]},
        {"tools": [{"name": "web_search", "type": "web_search_20250305"}]},
        {"tools": [TOOL, TOOL]},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "auto"}},
        {"tool_choice": {"type": "any"}},
        {"messages": [*ASK["messages"], {"role": "assistant", "content": "The answer is"}]},
        turn("user", type="image", source={}),
        turn("user", type="tool_use", id="c0", name="weather", input={}),
        turn("assistant", type="tool_result", tool_use_id="c0"),
        turn("user", type="tool_result", content="rain"),
    ],
)
async def test_what_cannot_be_done_is_one_clear_error(
    http: httpx.AsyncClient, told: ToldModels, more: dict[str, Any]
) -> None:
    response = await http.post(PATH, json={**ASK, **more})
    assert response.status_code == 400
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert told.asked == []


@pytest.mark.parametrize(
    ("refusal", "status", "kind"),
    [
        (QueueFullError("full"), 429, "rate_limit_error"),
        (ModelLoadingError("loading"), 503, "overloaded_error"),
        (WorkerCrashedError("died"), 500, "api_error"),
    ],
)
async def test_who_refuses_says_so_in_its_words(
    http: httpx.AsyncClient, told: ToldModels, refusal: Any, status: int, kind: str
) -> None:
    told.refusal = refusal
    response = await http.post(PATH, json=ASK)
    assert (response.status_code, response.json()["error"]["type"]) == (status, kind)


async def test_what_goes_wrong_in_mid_stream_is_its_last_event(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = ["Hel", WorkerCrashedError("the engine died")]
    found = events_of(await http.post(PATH, json={**ASK, "stream": True}))
    assert found[-1]["type"] == "error"
    assert found[-1]["error"]["message"] == "the engine died"


async def test_the_arguments_of_a_call_that_was_cut_off_are_empty(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = [Piece(1, "", (ToolCallPart(0, "c0", "weather", '{"ci'),))]
    (block,) = (await http.post(PATH, json=ASK)).json()["content"]
    assert block == {"type": "tool_use", "id": "c0", "name": "weather", "input": {}}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_BLOCK = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result", "image", "thinking"])},
    optional={
        "text": st.text(max_size=8),
        "id": st.text(max_size=4),
        "tool_use_id": st.text(max_size=4),
        "input": _JSON,
        "content": _JSON,
    },
)
_TURN = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]),
        "content": st.text(max_size=8) | st.lists(_BLOCK, max_size=3),
    }
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_TURN, max_size=3), _JSON)
def test_any_conversation_is_understood_or_refused(turns: list[Any], system: object) -> None:
    body = json.dumps({**ASK, "messages": turns, "system": system}).encode()
    refusal, requests = understood(body)
    assert (refusal == 400) != (requests == 1)


def understood(body: bytes) -> tuple[int, int]:
    """Return the status of a refusal, or how many requests were understood."""
    try:
        return 0, len(Messages().read(body).requests)
    except ApiError as error:
        return error.status, 0
