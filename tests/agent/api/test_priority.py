from __future__ import annotations

import httpx
import pytest
from simulators.told_models import ToldModels

BODY = {"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = {"model": "assistant", "input": "Hello"}


@pytest.mark.parametrize(
    ("headers", "is_batch"),
    [
        ({}, False),
        ({"x-sprat-priority": "interactive"}, False),
        ({"x-sprat-priority": "batch"}, True),
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/api/chat", "/v1/embeddings", "/api/embed"]
)
async def test_a_request_says_whether_somebody_waits_for_it(
    http: httpx.AsyncClient,
    told: ToldModels,
    path: str,
    headers: dict[str, str],
    is_batch: bool,  # noqa: FBT001 - a row
) -> None:
    answer = await http.post(path, json=BODY if "chat" in path else TEXT, headers=headers)
    assert answer.status_code == 200
    assert told.batches == [is_batch]


async def test_another_priority_is_refused_in_one_sentence(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    answer = await http.post(
        "/v1/chat/completions", json=BODY, headers={"x-sprat-priority": "urgent"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == (
        "expected `interactive` or `batch` in the header x-sprat-priority, found 'urgent'"
    )
    assert not told.asked
