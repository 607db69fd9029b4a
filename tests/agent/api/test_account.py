"""What the local API tells audit: who asked, how that ended, and never what was said."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulators.kept_account import KeptAccount
from simulators.told_models import LOADABLE, ToldModels
from simulators.waiting import until
from sprat_agent.api.asking import routes_of
from sprat_agent.audit.access import Access
from sprat_agent.audit.capture import Capturing
from sprat_agent.audit.inference import Inference, Outcome
from sprat_agent.audit.policy import Capture
from sprat_agent.runtime.faults import QueueFullError, WorkerCrashedError
from sprat_agent.runtime.wire import Piece
from sprat_agent.sync.ports import AdapterFile, ShardFile

SECRET = "canary"
MESSAGES = [{"role": "user", "content": SECRET}]
CHAT: dict[str, Any] = {"model": "assistant", "messages": MESSAGES}
FLOWS = ["whole", "streamed"]
DIALECTS = [
    ("openai", "/v1/chat/completions", CHAT),
    ("ollama", "/api/chat", CHAT),
    ("anthropic", "/v1/messages", {**CHAT, "max_tokens": 9}),
]
"""Path and body of a request for an answer, by dialect."""


def only(account: KeptAccount) -> Inference:
    (one,) = account.inferences
    assert SECRET not in str(account.inferences)
    return one


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("asked", DIALECTS)
async def test_an_answer_is_told_once_in_each_dialect(
    http: httpx.AsyncClient, account: KeptAccount, asked: tuple[str, str, Any], flow: str
) -> None:
    dialect, path, body = asked
    assert (await http.post(path, json={**body, "stream": flow == "streamed"})).status_code == 200
    one = only(account)
    assert one == Inference(
        model="tiny@1.0.0+q4_0",
        alias="assistant",
        digest=LOADABLE.digest,
        adapter="",
        caller="loopback",
        dialect=dialect,
        operation="chat",
        outcome=Outcome.ANSWERED,
        finish="stop",
        tokens_in=3,
        tokens_out=2,
        ttft_ms=one.ttft_ms,
        ms=one.ms,
    )
    assert one.ttft_ms is not None
    assert 0 <= one.ttft_ms <= one.ms + 1
    assert account.contents == [None]
    assert account.accesses == [Access("loopback", dialect, "2xx")]


async def test_who_comes_by_the_socket_is_known_by_their_user(
    listening: Any, account: KeptAccount
) -> None:
    async with listening.over_socket() as http:
        await http.post("/v1/chat/completions", json=CHAT)
    assert only(account).caller == f"uid:{os.getuid()}"
    assert [one.caller for one in account.accesses] == [f"uid:{os.getuid()}"]


async def test_what_was_refused_or_went_wrong_is_told_with_its_code(
    http: httpx.AsyncClient, account: KeptAccount, told: ToldModels
) -> None:
    told.refusal = QueueFullError("full")
    await http.post("/v1/chat/completions", json=CHAT)
    told.refusal, told.script = None, ["Hel", WorkerCrashedError("died")]
    await http.post("/api/chat", json={**CHAT, "stream": True})
    await http.post("/v1/chat/completions", json={**CHAT, "model": f"of {SECRET}"})
    await http.post("/v1/chat/completions", json={**CHAT, "model": f"assistant:{SECRET}"})
    told.refusal = QueueFullError("full")
    await http.post("/v1/embeddings", json={"model": "assistant", "input": SECRET})
    found = [(one.model, one.outcome, one.reason, one.operation) for one in account.inferences]
    tiny = LOADABLE.name
    assert found == [
        (tiny, Outcome.FAILED, "queue_full", "chat"),
        (tiny, Outcome.FAILED, "worker_crashed", "chat"),
        ("none", Outcome.FAILED, "model_not_found", "chat"),
        (tiny, Outcome.FAILED, "worker_crashed", "chat"),
        (tiny, Outcome.FAILED, "queue_full", "embeddings"),
    ]
    assert SECRET not in str(account.inferences)


async def test_an_application_that_goes_away_is_told_once(
    http: httpx.AsyncClient, account: KeptAccount, told: ToldModels
) -> None:
    told.script = ["Hel", None]
    asking = asyncio.create_task(http.post("/v1/chat/completions", json={**CHAT, "stream": True}))
    await told.has_begun.wait()
    asking.cancel()
    await until(lambda: account.inferences)
    one = only(account)
    assert (one.outcome, one.reason, one.tokens_in, one.tokens_out) == ("canceled", "", None, None)


async def test_one_that_leaves_before_the_first_word_is_an_access_without_status(
    http: httpx.AsyncClient, account: KeptAccount, told: ToldModels
) -> None:
    told.script = [None]
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
    await told.has_begun.wait()
    asking.cancel()
    await until(lambda: account.accesses)
    assert account.accesses == [Access("loopback", "openai", "none")]


async def test_each_choice_and_each_order_of_vectors_is_told(
    http: httpx.AsyncClient, account: KeptAccount
) -> None:
    await http.post("/v1/chat/completions", json={**CHAT, "n": 3})
    assert [one.operation for one in account.inferences] == ["chat"] * 3
    await http.post("/v1/embeddings", json={"model": "assistant", "input": [SECRET, "two"]})
    vectors = account.inferences[-1]
    assert (vectors.operation, vectors.tokens_in, vectors.tokens_out) == ("embeddings", 4, 0)
    assert len(account.inferences) == 4
    # Nothing was inferred.
    await http.post("/v1/messages/count_tokens", json={"model": "assistant", "messages": MESSAGES})
    assert len(account.inferences) == 4


async def test_an_adapter_is_told_if_the_model_has_it(
    http: httpx.AsyncClient, account: KeptAccount, told: ToldModels
) -> None:
    file = ShardFile(Path("/nowhere"), "0" * 64, 1)
    told.loadable = replace(LOADABLE, adapters=(AdapterFile("polite", file),))
    for name in ("assistant:polite", f"assistant:{SECRET}"):
        await http.post("/v1/chat/completions", json={**CHAT, "model": name})
    assert [one.adapter for one in account.inferences] == ["polite", ""]


async def test_who_is_turned_away_at_the_door_is_an_access_all_the_same(
    http: httpx.AsyncClient, account: KeptAccount
) -> None:
    await http.get("/v1/models", headers={"host": "evil.example"})
    await http.get("/api/tags", headers={"origin": "https://evil.example"})
    await http.get("/nothing/here")
    await http.post("/v1/chat/completions", content=b"{")
    await http.get("/livez")
    assert account.accesses == [
        Access("loopback", "openai", "4xx", "host_not_allowed"),
        Access("loopback", "ollama", "4xx", "origin_not_allowed"),
        Access("loopback", "other", "4xx"),
        Access("loopback", "openai", "4xx"),
        Access("loopback", "health", "2xx"),
    ]
    assert account.inferences == []


@pytest.mark.parametrize(
    ("path", "routes"),
    [
        ("/", "ollama"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/responses", "openai"),
        ("/api/embed", "ollama"),
        ("/agent/v1/status", "agent"),
        ("/metrics", "metrics"),
        ("/readyz", "health"),
        ("/v2", "other"),
    ],
)
def test_routes_are_told_by_their_family(path: str, routes: str) -> None:
    assert routes_of(path) == routes


@pytest.mark.parametrize("flow", FLOWS)
async def test_where_a_policy_says_so_what_was_said_is_told(
    http: httpx.AsyncClient, account: KeptAccount, told: ToldModels, flow: str
) -> None:
    account.capturing = Capturing(Capture("text", "It is the law.", 30), bytes(32))
    script: Sequence[str | Piece] = ("Hello ", Piece(1, "there"))
    told.script = script
    await http.post("/v1/chat/completions", json={**CHAT, "stream": flow == "streamed"})
    await http.post("/v1/embeddings", json={"model": "assistant", "input": [SECRET, "two"]})
    chat, vectors = account.contents
    assert chat
    assert vectors
    assert SECRET in chat["prompt"]["text"]
    assert chat["answer"] == {"text": "Hello there", "bytes": 11}
    assert vectors["prompt"] == {"text": f"{SECRET}\ntwo", "bytes": 10}
    assert vectors["answer"] == {"text": "", "bytes": 0}
