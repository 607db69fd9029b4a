"""Ollama's paths, as programs see them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulators.told_models import DONE, ToldModels
from sprat_agent.api.app import build_app
from sprat_agent.api.dialect import Dialect
from sprat_agent.api.faults import ApiError
from sprat_agent.api.ollama.chat import Chat
from sprat_agent.api.ollama.generate import Generate
from sprat_agent.api.ollama.shapes import calls
from sprat_agent.runtime.faults import QueueFullError, WorkerCrashedError
from sprat_agent.runtime.wire import Conversation, Piece, Text, ToolCall, ToolCallPart

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HELLO = [{"role": "user", "content": "Hello"}]
CHAT: dict[str, Any] = {"model": "assistant", "messages": HELLO}
END: Mapping[str, Any] = {
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 3,
    "prompt_eval_duration": 10_000_000,
    "eval_count": 2,
    "eval_duration": 20_000_000,
}


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


async def test_a_chat_streams_lines_unless_told_otherwise(http: httpx.AsyncClient) -> None:
    found = lines(await http.post("/api/chat", json=CHAT))
    assert [one["message"]["content"] for one in found] == ["Hello ", "there", ""]
    assert [one["done"] for one in found] == [False, False, True]
    assert {one["created_at"] for one in found} == {"2026-11-23T00:00:00Z"}
    assert found[-1].items() >= END.items()
    assert found[-1]["total_duration"] >= found[-1]["load_duration"] >= 0
    assert found[-1]["timings"]["decode_tps"] == 100
    whole = (await http.post("/api/chat", json={**CHAT, "stream": False})).json()
    assert whole["message"] == {"role": "assistant", "content": "Hello there"}
    assert whole.items() >= END.items()


async def test_a_text_is_generated_in_lines_or_whole(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    asked = {"model": "assistant:latest", "prompt": "Once", "system": "Be brief."}
    found = lines(await http.post("/api/generate", json=asked))
    assert [one["response"] for one in found] == ["Hello ", "there", ""]
    assert found[-1].items() >= END.items()
    whole = (await http.post("/api/generate", json={**asked, "stream": False})).json()
    assert (whole["response"], whole["model"]) == ("Hello there", "assistant:latest")
    prompt = told.asked[0][1].prompt
    assert isinstance(prompt, Conversation)
    assert [(one.role, one.content) for one in prompt.messages] == [
        ("system", "Be brief."),
        ("user", "Once"),
    ]
    await http.post("/api/generate", json={**asked, "raw": True, "stream": False})
    assert told.asked[-1][1].prompt == Text("Once")


async def test_options_reach_the_model(http: httpx.AsyncClient, told: ToldModels) -> None:
    options = {
        "temperature": 0,
        "top_k": 7,
        "top_p": 0.5,
        "min_p": 0.1,
        "seed": 5,
        "num_predict": 9,
        "num_ctx": 256,
        "stop": ["END"],
        "repeat_penalty": 1.1,
        "repeat_last_n": -1,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.4,
        "num_gpu": 99,
    }
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    asked = {**CHAT, "options": options, "format": schema, "keep_alive": "5m", "think": False}
    assert (await http.post("/api/chat", json=asked)).status_code == 200
    ((_, request),) = told.asked
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0, 7, 0.5)
    assert (sampling.min_p, sampling.seed, sampling.penalty_window) == (0.1, 5, 256)
    assert (sampling.repeat_penalty, sampling.presence_penalty) == (1.1, 0.3)
    assert sampling.frequency_penalty == 0.4
    assert (request.max_tokens, request.stop, request.schema) == (9, ("END",), schema)


async def test_format_json_asks_for_an_object_and_no_limit_is_none(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    asked = {**CHAT, "format": "json", "options": {"num_predict": -1}}
    await http.post("/api/chat", json=asked)
    assert told.asked[0][1].schema == {"type": "object"}
    assert told.asked[0][1].max_tokens is None


@pytest.mark.parametrize(
    ("path", "more", "code"),
    [
        ("chat", {"options": {"num_ctx": 257}}, "context_length_exceeded"),
        ("chat", {"options": {"num_predict": 0}}, "invalid_request"),
        ("chat", {"options": {"temperature": -1}}, "invalid_request"),
        ("chat", {"format": "yaml"}, "invalid_request"),
        ("chat", {"logprobs": True, "top_logprobs": 21}, "invalid_request"),
        ("chat", {"mesages": []}, "invalid_request"),
        ("chat", {"model": "gpt-4"}, "model_not_found"),
        ("generate", {"suffix": "end"}, "unsupported_parameter"),
        ("generate", {"template": "{{ .Prompt }}"}, "unsupported_parameter"),
        ("generate", {"context": [1]}, "unsupported_parameter"),
        ("generate", {"images": ["aGk="]}, "unsupported_parameter"),
    ],
)
async def test_what_cannot_be_done_is_one_clear_error(
    http: httpx.AsyncClient, told: ToldModels, path: str, more: dict[str, Any], code: str
) -> None:
    base = CHAT if path == "chat" else {"model": "assistant", "prompt": "Once"}
    response = await http.post(f"/api/{path}", json={**base, **more})
    assert response.status_code in {400, 404}
    assert response.json()["code"] == code
    assert isinstance(response.json()["error"], str)
    assert told.asked == []


async def test_a_request_without_a_prompt_only_says_that_the_model_is_there(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    chat = (await http.post("/api/chat", json={"model": "assistant", "messages": []})).json()
    assert (chat["done"], chat["done_reason"]) == (True, "load")
    assert chat["message"] == {"role": "assistant", "content": ""}
    generate = (await http.post("/api/generate", json={"model": "assistant"})).json()
    assert (generate["response"], generate["done_reason"]) == ("", "load")
    assert (await http.post("/api/generate", json={"model": "gpt-4"})).status_code == 404
    assert told.asked == []


async def test_tools_are_offered_called_and_answered(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    first = Piece(1, "", (ToolCallPart(0, "call_1", "weather", '{"city": '),))
    told.script = [first, Piece(1, "", (ToolCallPart(0, arguments='"Oslo"}'),))]
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    whole = await http.post("/api/chat", json={**CHAT, "tools": tools, "stream": False})
    assert whole.json()["message"]["tool_calls"] == [call]
    streamed = lines(await http.post("/api/chat", json={**CHAT, "tools": tools}))
    assert [one["message"].get("tool_calls") for one in streamed] == [[call], None]
    assert streamed[-1]["done_reason"] == "stop"
    turns = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "rain", "tool_name": "weather"},
        {"role": "tool", "content": "sun", "tool_name": "weather"},
        {"role": "tool", "content": "lost", "tool_name": "weather"},
    ]
    await http.post("/api/chat", json={**CHAT, "messages": turns, "tools": tools})
    prompt = told.asked[-1][1].prompt
    assert isinstance(prompt, Conversation)
    assert [tool.name for tool in prompt.tools] == ["weather"]
    ids = [one.id for one in prompt.messages[1].tool_calls]
    assert json.loads(prompt.messages[1].tool_calls[0].arguments) == {"city": "Oslo"}
    assert [one.tool_call_id for one in prompt.messages[2:]] == [*ids, ""]


def test_a_call_that_was_cut_off_is_left_out() -> None:
    made = [ToolCall("1", "weather", '{"city": "Os'), ToolCall("2", "now", "")]
    assert calls(made) == [{"function": {"name": "now", "arguments": {}}}]


async def test_what_goes_wrong_has_a_status_or_a_last_line(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.refusal = QueueFullError("full", retry_after_s=3)
    refused = await http.post("/api/chat", json=CHAT)
    assert (refused.status_code, refused.json()["error"]) == (429, "full")
    assert refused.headers["retry-after"] == "3"
    told.refusal, told.script = None, ["Hel", WorkerCrashedError("the engine died")]
    found = lines(await http.post("/api/chat", json=CHAT))
    assert found[-1] == {"error": "the engine died", "code": "worker_crashed"}
    told.done, told.script = DONE, ["Hel"]
    assert "error" not in lines(await http.post("/api/chat", json=CHAT))[-1]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:00"),
    ],
)
async def test_what_would_change_models_is_refused(
    http: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await http.request(method, path, json={"model": "llama3"})
    assert response.status_code == 403
    assert response.json()["code"] == "managed_by_fleet"
    assert "its controller" in response.json()["error"]


async def test_the_refusal_says_who_manages_the_device(told: ToldModels) -> None:
    app = build_app(
        told,
        clock=lambda: NOW,
        new_id=lambda: "1",
        is_simulated=False,
        status=lambda: {"controller": {"url": "https://fleet:7770", "carrier": None}},
    )
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post("/api/pull", json={"model": "llama3"})
    assert "https://fleet:7770" in response.json()["error"]


async def test_models_are_listed_and_shown_without_asking_them(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    (tag,) = (await http.get("/api/tags")).json()["models"]
    assert (tag["name"], tag["digest"], tag["size"]) == ("assistant:latest", "ab" * 32, 1)
    (running,) = (await http.get("/api/ps")).json()["models"]
    assert running["context_length"] == 256
    shown = (await http.post("/api/show", json={"name": tag["name"]})).json()
    assert shown["details"]["quantization_level"] == "Q4_0"
    assert shown["model_info"]["llama.context_length"] == 256
    assert (await http.post("/api/show", json={"model": "gpt-4"})).status_code == 404
    assert "version" in (await http.get("/api/version")).json()
    assert told.asked == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_FIELDS = ("model", "messages", "prompt", "options", "format", "tools", "stream", "system", "raw")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON) | _JSON)
def test_any_body_is_understood_or_refused_in_one_sentence(body: object) -> None:
    for dialect in (Chat(lambda _name: 256), Generate(lambda _name: 256)):
        refusal, requests = understood(dialect, json.dumps(body).encode())
        assert (refusal == 400) != (requests == 1)


def understood(dialect: Dialect, body: bytes) -> tuple[int, int]:
    """Return the status of a refusal, or how many requests were understood."""
    try:
        return 0, len(dialect.read(body).requests)
    except ApiError as error:
        return error.status, 0
