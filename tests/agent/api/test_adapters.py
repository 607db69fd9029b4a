"""Adapters in the local API: listed, asked for by tag, and named in what comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from simulators.told_models import LOADABLE, ToldModels
from sprat_agent.sync.ports import AdapterFile, ShardFile

HELLO = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "assistant:rude", "messages": HELLO}
FILE = ShardFile(Path("/nowhere"), "cd" * 32, 7)


@pytest.fixture(autouse=True)
def _with_adapters(told: ToldModels) -> None:
    adapters = tuple(AdapterFile(name, FILE) for name in ("rude", "polite"))
    told.loadable = replace(LOADABLE, adapters=adapters)


async def test_openai_lists_each_adapter_after_its_model(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()["data"]
    assert [(one["id"], one["sprat"].get("adapter")) for one in listed] == [
        ("assistant", None),
        ("assistant:polite", "polite"),
        ("assistant:rude", "rude"),
    ]
    assert {one["sprat"]["digest"] for one in listed} == {LOADABLE.digest}
    assert (await http.get("/v1/models/assistant:rude")).json() == listed[2]


async def test_the_status_of_the_device_tells_them(http: httpx.AsyncClient) -> None:
    (model,) = (await http.get("/agent/v1/status")).json()["models"]
    assert model["adapters"] == ["polite", "rude"]


async def test_ollama_lists_each_adapter_as_a_tag(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/api/tags")).json()["models"]
    names = ["assistant:latest", "assistant:polite", "assistant:rude"]
    assert [one["name"] for one in listed] == [one["model"] for one in listed] == names
    for name in names:
        assert (await http.post("/api/show", json={"model": name})).status_code == 200


async def test_an_answer_says_which_adapter_made_it(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    for path in ("/v1/chat/completions", "/api/chat"):
        for is_streamed in (False, True):
            response = await http.post(path, json={**CHAT, "stream": is_streamed})
            assert response.headers["x-sprat-adapter"] == "rude"
            assert '"model":"assistant:rude"' in response.text
    assert [request.adapter for _, request in told.asked] == ["rude"] * 4
    plain = await http.post("/v1/chat/completions", json={**CHAT, "model": "assistant"})
    assert "x-sprat-adapter" not in plain.headers


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models/assistant:shy", None),
        ("POST", "/api/show", {"model": "assistant:shy"}),
        ("POST", "/api/generate", {"model": "assistant:shy"}),
    ],
)
async def test_an_adapter_that_is_not_there_is_not_found_and_those_there_are_are_named(
    http: httpx.AsyncClient, method: str, path: str, body: object
) -> None:
    response = await http.request(method, path, json=body)
    assert response.status_code == 404
    assert "the adapter 'shy' is not here; there are: polite, rude" in response.text


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
async def test_vectors_are_never_an_adapters(
    http: httpx.AsyncClient, told: ToldModels, path: str
) -> None:
    response = await http.post(path, json={"model": "assistant:rude", "input": "a text"})
    assert response.status_code == 400
    assert "ask for 'assistant' without its tag" in response.text
    assert told.embedded == []
