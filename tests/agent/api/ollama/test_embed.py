"""Vectors, as Ollama's clients ask for them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from simulators.told_models import ToldModels
from sprat_agent.runtime.faults import RequestRefusedError
from sprat_agent.runtime.wire import Text


async def test_many_texts_are_embedded_in_order_by_turns(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    texts = [str(number) for number in range(100)]
    asked = {"model": "assistant:latest", "input": texts, "keep_alive": "5m"}
    response = await http.post("/api/embed", json=asked)
    found = response.json()
    assert response.headers["x-sprat-model"] == "tiny@1.0.0+q4_0"
    assert found["model"] == "assistant:latest"
    assert [int(vector[0]) for vector in found["embeddings"]] == [*range(64), *range(36)]
    assert found["prompt_eval_count"] == 200
    assert found["total_duration"] > 0
    assert [one for _, inputs, _ in told.embedded for one in inputs] == [
        Text(text) for text in texts
    ]


@pytest.mark.parametrize(("more", "is_truncated"), [({}, True), ({"truncate": False}, False)])
async def test_what_is_too_long_is_cut_unless_told_otherwise(
    http: httpx.AsyncClient, told: ToldModels, more: dict[str, Any], *, is_truncated: bool
) -> None:
    await http.post("/api/embed", json={"model": "assistant", "input": "a", **more})
    assert told.embedded == [("assistant", (Text("a"),), is_truncated)]


async def test_without_a_text_only_the_model_is_looked_for(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    bodies: list[dict[str, Any]] = [{"input": ""}, {"input": []}, {}]
    for body in bodies:
        found = await http.post("/api/embed", json={"model": "assistant", **body})
        assert found.json()["embeddings"] == []
    legacy = await http.post("/api/embeddings", json={"model": "assistant"})
    assert legacy.json() == {"embedding": []}
    assert (await http.post("/api/embed", json={"model": "gpt-4"})).status_code == 404
    assert told.embedded == []


async def test_what_cannot_be_done_is_one_clear_error(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    body = {"model": "assistant", "input": "a"}
    shortened = await http.post("/api/embed", json={**body, "dimensions": 8})
    assert (shortened.status_code, shortened.json()["code"]) == (400, "unsupported_parameter")
    told.refusal = RequestRefusedError("not_supported", "it makes no vectors")
    refused = await http.post("/api/embed", json=body)
    assert (refused.status_code, refused.json()["error"]) == (400, "it makes no vectors")
