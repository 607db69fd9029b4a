"""What chat completions look like on the way out, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from simulators.told_models import ToldModels
from sprat_agent.runtime import faults
from sprat_agent.runtime.wire import Alternative, Chosen, Done, Piece, ToolCallPart

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}
CALLS = (
    Piece(1, "Let me see."),
    Piece(1, "", (ToolCallPart(0, "c0", "weather", '{"pl'),)),
    Piece(1, "", (ToolCallPart(0, arguments='ace":1}'), ToolCallPart(1, "c1", "time", "{}"))),
)


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    *chunks, last, rest = response.text.split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


def called(told: ToldModels, *pieces: Piece) -> None:
    told.script = pieces
    told.done = Done(1, "tool_calls", 3, 2, 10.0, 20.0, cached_tokens=2)


async def test_calls_are_whole_in_a_whole_answer(http: httpx.AsyncClient, told: ToldModels) -> None:
    called(told, *CALLS)
    (choice,) = (await http.post(CHAT, json=ASK)).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    assert choice["message"]["tool_calls"] == [
        {
            "id": "c0",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"place":1}'},
        },
        {"id": "c1", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    called(told, *CALLS[1:])
    (choice,) = (await http.post(CHAT, json=ASK)).json()["choices"]
    assert choice["message"]["content"] is None


async def test_calls_come_in_bits_in_a_stream(http: httpx.AsyncClient, told: ToldModels) -> None:
    called(told, *CALLS)
    chunks = chunks_of(await http.post(CHAT, json={**ASK, "stream": True}))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[1:-1] == [
        {"content": "Let me see."},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "c0",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"pl'},
                }
            ]
        },
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": 'ace":1}'}},
                {
                    "index": 1,
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "time", "arguments": "{}"},
                },
            ]
        },
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_tell_bytes_too(
    http: httpx.AsyncClient, told: ToldModels, *, stream: bool
) -> None:
    half = Chosen("é".encode()[:1], -0.5, (Alternative(b"a", float("-inf")),))
    told.script = (Piece(1, "", chosen=(half,)), Piece(1, "é", chosen=(Chosen(b"\xa9", -1.0),)))
    ask = {**ASK, "logprobs": True, "top_logprobs": 1, "stream": stream}
    response = await http.post(CHAT, json=ask)
    bodies = chunks_of(response) if stream else [response.json()]
    blocks = [choice["logprobs"] for body in bodies for choice in body["choices"]]
    tokens = [token for block in blocks if block for token in block["content"]]
    assert [(one["token"], one["logprob"], one["bytes"]) for one in tokens] == [
        ("\ufffd", -0.5, [0xC3]),
        ("\ufffd", -1.0, [0xA9]),
    ]
    assert tokens[0]["top_logprobs"] == [{"token": "a", "logprob": -9999.0, "bytes": [97]}]
    assert told.asked[0][1].logprobs == 1


async def test_choices_are_answered_side_by_side_and_told_by_index(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    ask = {**ASK, "n": 3, "seed": 5}
    body = (await http.post(CHAT, json=ask)).json()
    assert [one["index"] for one in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == 6
    assert body["usage"]["total_tokens"] == 9
    assert [asked.sampling.seed for _, asked in told.asked] == [5, 6, 7]
    streamed = {**ask, "stream": True, "stream_options": {"include_usage": True}}
    chunks = chunks_of(await http.post(CHAT, json=streamed))
    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == ["Hello there"] * 3
    assert chunks[-1]["usage"]["completion_tokens"] == 6


async def test_one_choice_that_goes_wrong_is_the_error_of_all(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = ("Hello ", faults.WorkerCrashedError("the worker died"))
    response = await http.post(CHAT, json={**ASK, "n": 3})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "worker_crashed")


async def test_what_was_cached_is_told(http: httpx.AsyncClient, told: ToldModels) -> None:
    told.done = msgspec.structs.replace(told.done, cached_tokens=2)
    body = (await http.post(CHAT, json=ASK)).json()
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert body["timings"]["cached_tokens"] == 2
    assert body["timings"]["prefill_tps"] == 100  # one token, in 10 ms


async def test_a_tag_is_an_adapter_and_latest_is_none(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    for name in ("assistant:latest", "assistant:pirate"):
        response = await http.post(CHAT, json={**ASK, "model": name})
        assert response.json()["model"] == name
    assert [(name, asked.adapter) for name, asked in told.asked] == [
        ("assistant", ""),
        ("assistant", "pirate"),
    ]
