"""Vectors of texts, over real sockets."""

from __future__ import annotations

import base64
import struct
from typing import Any

import httpx
import pytest
from simulators.told_models import LOADABLE, ToldModels
from sprat_agent.runtime import faults
from sprat_agent.runtime.wire import Text, Tokens

PATH = "/v1/embeddings"
ASK: dict[str, Any] = {"model": "assistant:latest", "input": ["a", "b"]}


async def test_each_text_has_its_vector_in_order(http: httpx.AsyncClient, told: ToldModels) -> None:
    response = await http.post(PATH, json=ASK)
    assert response.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.0, 0.5]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.5]},
        ],
        "model": "assistant:latest",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    assert response.headers["x-sprat-digest"] == LOADABLE.digest
    assert told.embedded == [("assistant", (Text("a"), Text("b")), False)]


async def test_base64_is_the_bytes_of_the_floats(http: httpx.AsyncClient) -> None:
    body = (await http.post(PATH, json={**ASK, "encoding_format": "base64"})).json()
    vectors = [base64.b64decode(one["embedding"]) for one in body["data"]]
    assert vectors == [struct.pack("<2f", 0, 0.5), struct.pack("<2f", 1, 0.5)]


async def test_tokens_are_texts_too(http: httpx.AsyncClient, told: ToldModels) -> None:
    assert (await http.post(PATH, json={**ASK, "input": [1, 2]})).status_code == 200
    assert told.embedded[0][1] == (Tokens((1, 2)),)


async def test_many_texts_go_to_the_worker_in_batches(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    body = (await http.post(PATH, json={**ASK, "input": ["a"] * 130})).json()
    assert [one["index"] for one in body["data"]] == list(range(130))
    assert [len(inputs) for _, inputs, _ in told.embedded] == [64, 64, 2]
    assert body["usage"]["prompt_tokens"] == 260


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"dimensions": 2}, "dimensions"),
        ({"model": "assistant:pirate"}, "model"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_field(
    http: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await http.post(PATH, json={**ASK, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_model_without_embeddings_says_so(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.refusal = faults.RequestRefusedError("not_supported", "this model makes no embeddings")
    response = await http.post(PATH, json=ASK)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "not_supported")
    counted = [
        line
        for line in (await http.get("/metrics")).text.splitlines()
        if "embeddings" in line and "not_supported" in line
    ]
    assert [line.rpartition(" ")[2] for line in counted] == ["1.0"]
