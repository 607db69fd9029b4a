"""Ollama's official client and LangChain's, over a real connection."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false
# The clients' own annotations are partial, and LangChain's has no way to be closed.

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import ollama
import pytest
from langchain_ollama import ChatOllama
from simulators.told_models import ToldModels
from simulators.waiting import until
from sprat_agent.runtime.faults import WorkerCrashedError
from sprat_agent.runtime.wire import Alternative, Chosen, Piece, ToolCallPart


@pytest.fixture
async def client(http: httpx.AsyncClient) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(host=str(http.base_url)) as made:
        yield made


async def test_it_chats_whole_and_in_a_stream(client: ollama.AsyncClient) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    whole = await client.chat("assistant", messages, options={"temperature": 0})
    assert whole.message.content == "Hello there"
    assert (whole.done_reason, whole.eval_count, whole.eval_duration) == ("stop", 2, 20_000_000)
    parts = [part async for part in await client.chat("assistant", messages, stream=True)]
    assert "".join(part.message.content or "" for part in parts) == "Hello there"
    assert [part.done for part in parts] == [False, False, True]


async def test_it_generates(client: ollama.AsyncClient) -> None:
    whole = await client.generate("assistant", "Once", format="json", keep_alive="5m")
    assert whole.response == "Hello there"
    parts = [part async for part in await client.generate("assistant", "Once", stream=True)]
    assert "".join(part.response or "" for part in parts) == "Hello there"


async def test_it_calls_python_functions(client: ollama.AsyncClient, told: ToldModels) -> None:
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: Where.
        """
        return city

    told.script = [Piece(1, "", (ToolCallPart(0, "call_1", "weather", '{"city": "Oslo"}'),))]
    messages = [{"role": "user", "content": "Hello"}]
    answer = await client.chat("assistant", messages, tools=[weather])
    assert answer.message.tool_calls
    call = answer.message.tool_calls[0]
    assert weather(**call.function.arguments) == "Oslo"
    messages = [*messages, answer.message, {"role": "tool", "content": "x", "tool_name": "weather"}]
    await client.chat("assistant", messages, tools=[weather])


async def test_it_gets_log_probabilities_with_the_tokens_they_are_of(
    client: ollama.AsyncClient, told: ToldModels
) -> None:
    half = Chosen(b"\xc3", -1.0, (Alternative(b"\xc3", -1.0), Alternative(b"a", float("-inf"))))
    told.script = [Piece(1, "", (), (half,)), Piece(1, "é", (), (Chosen(b"\xa9", -0.5),))]
    messages = [{"role": "user", "content": "Hello"}]
    ask: dict[str, Any] = {"logprobs": True, "top_logprobs": 2}
    whole = await client.chat("assistant", messages, **ask)
    assert whole.message.content == "é"
    generated = await client.generate("assistant", "Once", **ask)
    parts = [part async for part in await client.chat("assistant", messages, stream=True, **ask)]
    streamed = [one for part in parts for one in part.logprobs or ()]
    for found in (whole.logprobs, generated.logprobs, streamed):
        assert found
        assert [(one.token, one.logprob) for one in found] == [("\ufffd", -1.0), ("\ufffd", -0.5)]
        assert [(one.token, one.logprob) for one in found[0].top_logprobs or ()] == [
            ("\ufffd", -1.0),
            ("a", -9999.0),
        ]
    assert [part.message.content for part in parts] == ["", "é", ""]
    assert [request.logprobs for _, request in told.asked] == [2, 2, 2]


async def test_it_gets_no_log_probabilities_unless_it_asks(
    client: ollama.AsyncClient, told: ToldModels
) -> None:
    assert (await client.generate("assistant", "Once", top_logprobs=2)).logprobs is None
    assert told.asked[0][1].logprobs is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_says_that_somebody_is_there(http: httpx.AsyncClient, method: str) -> None:
    answer = await http.request(method, "/")
    assert answer.status_code == 200
    assert answer.text == ("Sprat is running" if method == "GET" else "")


async def test_it_makes_vectors(client: ollama.AsyncClient) -> None:
    assert (await client.embed("assistant", "a")).embeddings == [[0.0, 0.5]]
    assert (await client.embed("assistant", ["a", "b"])).embeddings == [[0.0, 0.5], [1.0, 0.5]]
    assert (await client.embeddings("assistant", "a")).embedding == [0.0, 0.5]


async def test_it_lists_and_shows_models(client: ollama.AsyncClient) -> None:
    assert [one.model for one in (await client.list()).models] == ["assistant:latest"]
    assert [one.model for one in (await client.ps()).models] == ["assistant:latest"]
    shown = await client.show("assistant")
    assert shown.details
    assert shown.details.family == "llama"
    assert "completion" in (shown.capabilities or [])


async def test_its_errors_are_typed(client: ollama.AsyncClient, told: ToldModels) -> None:
    with pytest.raises(ollama.ResponseError, match="is not here") as missing:
        await client.chat("gpt-4", [{"role": "user", "content": "Hello"}])
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="decided by its fleet") as managed:
        await client.pull("llama3")
    assert managed.value.status_code == 403
    told.script = ["Hel", WorkerCrashedError("the engine died")]
    with pytest.raises(ollama.ResponseError, match="the engine died"):
        async for _ in await client.generate("assistant", "Once", stream=True):
            pass


async def test_the_generation_stops_when_it_goes_away(
    client: ollama.AsyncClient, told: ToldModels
) -> None:
    told.script = ["Hel", None]
    stream = await client.generate("assistant", "Once", stream=True)
    assert isinstance(stream, AsyncGenerator)
    await anext(stream)
    await stream.aclose()
    await until(told.cancelled.is_set)


async def test_langchain_chats(http: httpx.AsyncClient) -> None:
    model = ChatOllama(model="assistant", base_url=str(http.base_url), temperature=0)
    answer = await model.ainvoke("Hello")
    await model._async_client._client.aclose()
    model._client._client.close()
    assert answer.content == "Hello there"
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] == 2
