"""Anthropic's official client and LangChain's, over a real connection."""

# pyright: reportPrivateUsage=false
# LangChain has no other way to close its client.

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import httpx
import msgspec
import pytest
from anthropic.types import MessageParam, ToolParam
from langchain_anthropic import ChatAnthropic
from pydantic import SecretStr
from simulators.told_models import DONE, ToldModels
from simulators.waiting import until
from sprat_agent.runtime.faults import RequestRefusedError, WorkerCrashedError
from sprat_agent.runtime.wire import Piece, ToolCallPart

HELLO: list[MessageParam] = [{"role": "user", "content": "Hello"}]
TOOL: ToolParam = {"name": "weather", "input_schema": {"type": "object"}}


@pytest.fixture
async def client(http: httpx.AsyncClient) -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = str(http.base_url)
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as made:
        yield made


async def test_it_answers_whole_and_in_a_stream(client: anthropic.AsyncAnthropic) -> None:
    whole = await client.messages.create(model="assistant", max_tokens=16, messages=HELLO)
    assert whole.content[0].type == "text"
    assert whole.content[0].text == "Hello there"
    async with client.messages.stream(model="assistant", max_tokens=16, messages=HELLO) as stream:
        text = "".join([part async for part in stream.text_stream])
        final = await stream.get_final_message()
    assert text == "Hello there"
    assert (final.stop_reason, final.usage) == (whole.stop_reason, whole.usage)


async def test_it_calls_tools(client: anthropic.AsyncAnthropic, told: ToldModels) -> None:
    told.script = [
        Piece(1, "", (ToolCallPart(0, "c0", "weather", '{"city": '),)),
        Piece(1, "", (ToolCallPart(0, arguments='"Oslo"}'),)),
    ]
    told.done = msgspec.structs.replace(DONE, finish="tool_calls")
    async with client.messages.stream(
        model="assistant", max_tokens=16, messages=HELLO, tools=[TOOL]
    ) as stream:
        final = await stream.get_final_message()
    (call,) = final.content
    assert call.type == "tool_use"
    assert (call.name, call.input, final.stop_reason) == ("weather", {"city": "Oslo"}, "tool_use")


async def test_it_counts_what_a_conversation_takes(
    client: anthropic.AsyncAnthropic, told: ToldModels
) -> None:
    counted = await client.messages.count_tokens(
        model="assistant", system="Be brief.", messages=HELLO, tools=[TOOL]
    )
    assert counted.input_tokens == 11
    await client.messages.create(
        model="assistant", max_tokens=16, system="Be brief.", messages=HELLO, tools=[TOOL]
    )
    ((name, prompt),) = told.counted
    assert name == "assistant"
    assert prompt == told.asked[0][1].prompt
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.count_tokens(model="gpt-4", messages=HELLO)
    told.refusal = RequestRefusedError("messages_refused", "no template")
    with pytest.raises(anthropic.BadRequestError, match="no template"):
        await client.messages.count_tokens(model="assistant", messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        await client.messages.count_tokens(
            model="assistant", messages=HELLO, extra_body={"max_tokens": 16}
        )


async def test_its_errors_are_typed(client: anthropic.AsyncAnthropic, told: ToldModels) -> None:
    with pytest.raises(anthropic.NotFoundError, match="is not here"):
        await client.messages.create(model="gpt-4", max_tokens=16, messages=HELLO)
    told.script = ["Hel", WorkerCrashedError("the engine died")]
    with pytest.raises(anthropic.APIStatusError, match="the engine died"):
        async with client.messages.stream(
            model="assistant", max_tokens=16, messages=HELLO
        ) as stream:
            await stream.get_final_message()


async def test_the_generation_stops_when_it_goes_away(
    client: anthropic.AsyncAnthropic, told: ToldModels
) -> None:
    told.script = ["Hel", None]
    async with client.messages.stream(model="assistant", max_tokens=16, messages=HELLO) as stream:
        assert await anext(stream.text_stream) == "Hel"
    await until(told.cancelled.is_set)


async def test_langchain_chats(http: httpx.AsyncClient) -> None:
    model = ChatAnthropic(
        model_name="assistant",
        base_url=str(http.base_url),
        api_key=SecretStr("none"),
        max_tokens_to_sample=16,
        timeout=None,
        stop=None,
    )
    answer = await model.ainvoke("Hello")
    assert answer.content == "Hello there"
    await model._async_client.close()
