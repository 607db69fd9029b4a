"""The routes, over real sockets, with models that answer as they are told."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import Any, Protocol

import httpx
import pytest
from simulators.told_models import LOADABLE, ToldModels
from sprat_agent.api.body import MAX_BODY_BYTES
from sprat_agent.runtime import faults
from sprat_agent.runtime.wire import Conversation, Message, Request, Sampling

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}


class Listening(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def socket(self) -> Any: ...
    def over_socket(self) -> httpx.AsyncClient: ...


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


def events_of(response: httpx.Response) -> list[Any]:
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


async def test_a_whole_answer_says_what_it_is_and_who_signed_it(http: httpx.AsyncClient) -> None:
    response = await http.post(CHAT, json=ASK)
    assert response.status_code == 200
    body = response.json()
    timings = body.pop("timings")
    assert body == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1795392000,
        "model": "assistant",
        "system_fingerprint": LOADABLE.digest[:16],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    assert timings["decode_tps"] == 100
    assert timings["ttft_ms"] >= timings["queue_ms"] >= 0
    assert response.headers["x-sprat-model"] == "tiny@1.0.0+q4_0"
    assert response.headers["x-sprat-version"] == "1.0.0"
    assert response.headers["x-sprat-variant"] == "q4_0"
    assert response.headers["x-sprat-digest"] == LOADABLE.digest
    assert response.headers["x-sprat-signer"] == "?lesund (0123456789ab)"


async def test_a_stream_is_role_pieces_finish_usage_and_done(http: httpx.AsyncClient) -> None:
    ask = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
    response = await http.post(CHAT, json=ask)
    *chunks, last = events_of(response)
    assert last == "[DONE]"
    bodies = [json.loads(chunk) for chunk in chunks]
    assert {body["id"] for body in bodies} == {"chatcmpl-1"}
    assert [body["choices"][0]["delta"].get("content") for body in bodies[:-1]] == [
        "",
        "Hello ",
        "there",
        None,
    ]
    assert bodies[-2]["choices"][0]["finish_reason"] == "stop"
    assert bodies[-2]["timings"]["decode_tps"] == 100
    assert bodies[-1]["choices"] == []
    assert bodies[-1]["usage"]["total_tokens"] == 5
    assert response.headers["x-sprat-digest"] == LOADABLE.digest


async def test_usage_comes_only_when_asked_for(http: httpx.AsyncClient) -> None:
    response = await http.post(CHAT, json={**ASK, "stream": True})
    assert "usage" not in response.text


async def test_an_empty_answer_is_an_answer(http: httpx.AsyncClient, told: ToldModels) -> None:
    told.script = ()
    assert (await http.post(CHAT, json=ASK)).json()["choices"][0]["message"]["content"] == ""
    streamed = await http.post(CHAT, json={**ASK, "stream": True})
    assert events_of(streamed)[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (faults.QueueFullError("busy", retry_after_s=1), 429, "queue_full"),
        (faults.ModelLoadingError("loading", retry_after_s=1), 503, "model_loading"),
        (faults.WorkerCrashedError("crashed"), 500, "worker_crashed"),
        (faults.ModelUnloadedError("unloaded"), 503, "model_unloaded"),
        (faults.EngineFailedError("failed"), 500, "engine_error"),
        (faults.InsufficientMemoryError("too big"), 503, "insufficient_memory"),
        (
            faults.RequestRefusedError("context_length_exceeded", "too long"),
            400,
            "context_length_exceeded",
        ),
    ],
)
async def test_what_goes_wrong_before_the_first_text_has_a_status_and_a_code(
    http: httpx.AsyncClient,
    told: ToldModels,
    *,
    refusal: faults.AnswerError,
    status: int,
    code: str,
    stream: bool,
) -> None:
    told.script = (refusal,)
    response = await http.post(CHAT, json={**ASK, "stream": stream})
    assert response.status_code == status
    assert error_of(response)["code"] == code
    assert ("retry-after" in response.headers) == (refusal.retry_after_s is not None)
    told.refusal = refusal
    assert error_of(await http.post(CHAT, json={**ASK, "stream": stream}))["code"] == code


async def test_what_goes_wrong_in_mid_stream_is_an_event_and_no_done(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = ("Hello ", faults.WorkerCrashedError("the worker died"))
    events = events_of(await http.post(CHAT, json={**ASK, "stream": True}))
    assert json.loads(events[-1])["error"] == {
        "message": "the worker died",
        "type": "server_error",
        "param": None,
        "code": "worker_crashed",
    }
    assert "[DONE]" not in events


@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_stops_the_generation(
    http: httpx.AsyncClient, told: ToldModels, *, stream: bool, choices: int
) -> None:
    told.script = ("Hello ", None)
    asking = asyncio.create_task(http.post(CHAT, json={**ASK, "stream": stream, "n": choices}))
    async with asyncio.timeout(20):
        await told.has_begun.wait()
        asking.cancel()
        await told.cancelled.wait()


async def test_what_is_asked_reaches_the_engine(http: httpx.AsyncClient, told: ToldModels) -> None:
    ask = {**ASK, "temperature": 0, "top_p": 0.5, "max_tokens": 7, "stop": "\n", "seed": 3}
    assert (await http.post(CHAT, json=ask)).status_code == 200
    expected = Request(Conversation((Message("user", "Hi"),)), Sampling(0, 0.5, seed=3), 7, ("\n",))
    assert told.asked == [("assistant", expected)]


async def test_a_model_that_is_not_here_is_named_with_those_that_are(
    http: httpx.AsyncClient,
) -> None:
    response = await http.post(CHAT, json={**ASK, "model": "gpt-4"})
    assert response.status_code == 404
    error = error_of(response)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'gpt-4'" in error["message"]
    assert "assistant" in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": "assistant"}'])
async def test_a_body_that_is_not_understood_is_one_sentence(
    http: httpx.AsyncClient, body: bytes
) -> None:
    response = await http.post(CHAT, content=body)
    assert response.status_code == 400
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert "\n" not in error["message"]


async def test_a_body_that_is_too_long_is_refused(http: httpx.AsyncClient) -> None:
    long = {**ASK, "messages": [{"role": "user", "content": "x" * MAX_BODY_BYTES}]}
    response = await http.post(CHAT, json=long)
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


async def test_models_are_listed_and_shown(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert [(one["id"], one["sprat"]["digest"]) for one in listed["data"]] == [
        ("assistant", LOADABLE.digest)
    ]
    assert (await http.get("/v1/models/tiny@1.0.0")).json()["id"] == "tiny@1.0.0"
    missing = await http.get("/v1/models/a/b")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "model_not_found")


async def test_ready_is_when_every_committed_alias_can_answer(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    assert (await http.get("/readyz")).json() == {"ready": True, "reasons": []}
    told.reason = "its worker was killed by SIGKILL"
    response = await http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reasons"] == [{"alias": "assistant", "message": told.reason}]
    assert (await http.get("/livez")).status_code == 200


async def test_status_tells_what_runs_and_that_the_profile_is_simulated(
    http: httpx.AsyncClient,
) -> None:
    body = (await http.get("/agent/v1/status")).json()
    assert (body["device_id"], body["simulated"]) == ("device-1", True)
    (model,) = body["models"]
    assert (model["alias"], model["release"], model["signer"]) == (
        "assistant",
        "1.0.0",
        LOADABLE.signer,
    )
    assert (model["state"], model["candidate"]) == ("READY", None)


async def test_other_paths_and_methods_are_errors_of_the_same_shape(
    http: httpx.AsyncClient,
) -> None:
    missing = await http.get("/v2")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")
    wrong = await http.get(CHAT)
    assert (wrong.status_code, error_of(wrong)["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"  # RFC 9110, section 15.5.6
    assert (await http.post("/agent/v1/events")).status_code == 405


@pytest.mark.parametrize("host", ["", "[", "a/api/", "/v1/messages?"])
async def test_the_shape_of_an_error_does_not_depend_on_the_header_host(
    listening: Listening, host: str
) -> None:
    async with listening.over_socket() as http:
        missing = await http.get("/v2", headers={"host": host})
    assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")


async def test_a_bug_is_an_error_of_the_same_shape(
    http: httpx.AsyncClient, told: ToldModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(told, "offered", broken)
    response = await http.get("/v1/models")
    assert (response.status_code, error_of(response)["code"]) == (500, "internal_error")


async def test_a_web_page_cannot_ask_over_tcp(
    http: httpx.AsyncClient, listening: Listening
) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"host": ""}):
        response = await http.get("/livez", headers=headers)
        assert response.status_code == 403, headers
        assert error_of(response)["code"].endswith("_not_allowed")
    for headers in ({"host": "LOCALHOST:1"}, {"host": "[::1]:1"}, {"origin": "http://localhost:3"}):
        assert (await http.get("/livez", headers=headers)).status_code == 200, headers
    async with listening.over_socket() as socket:
        assert (await socket.get("/livez", headers={"host": "sprat"})).status_code == 200


async def test_the_unix_socket_is_for_owner_and_group(listening: Listening) -> None:
    assert stat.S_IMODE(listening.socket.stat().st_mode) == 0o660
    async with listening.over_socket() as socket:
        assert (await socket.post(CHAT, json=ASK)).status_code == 200
