"""The official client, llama.cpp in its worker, both sockets."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest
from simulators import models
from simulators.workbench import PLENTY, QUICK, CountedCrashes
from sprat_agent.api.app import build_app
from sprat_agent.api.server import LocalApi
from sprat_agent.clock import system_clock
from sprat_agent.runtime.supervisor import Supervisor


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return models.write_model(tmp_path_factory.mktemp("model") / "one.gguf")


@pytest.fixture
async def events() -> list[str]:
    return []


@pytest.fixture(params=["tcp", "unix"])
async def client(
    request: pytest.FixtureRequest, tmp_path: Path, model_files: list[Path], events: list[str]
) -> AsyncIterator[openai.AsyncOpenAI]:
    def take(tag: str, subject: str, details: object) -> None:
        events.append(f"{tag} {subject} {details}")

    supervisor = Supervisor(
        PLENTY, tmp_path / "run", take, crashes=CountedCrashes(), threads=1, limits=QUICK
    )
    await supervisor.load_committed(models.loadable(model_files))
    app = build_app(
        supervisor,
        clock=system_clock,
        new_id=lambda: uuid.uuid4().hex,
        is_simulated=False,
        status=dict,
    )
    api = LocalApi(app, "127.0.0.1:0", tmp_path / "sprat.sock")
    url = await api.start()
    path = str(tmp_path / "sprat.sock") if request.param == "unix" else None
    transport = httpx2.AsyncHTTPTransport(uds=path)
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http
        ) as made,
    ):
        yield made
    await api.stop()
    await supervisor.close()


async def test_whole_and_streamed_answers_are_the_same(
    client: openai.AsyncOpenAI, events: list[str]
) -> None:
    whole = await client.chat.completions.create(
        model="assistant",
        messages=[{"role": "user", "content": "Hello"}],
        temperature=0,
        max_tokens=24,
    )
    stream = await client.chat.completions.create(
        model="tiny@1.0.0+f32",
        messages=[{"role": "user", "content": "Hello"}],
        temperature=0,
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == text
    assert whole.choices[0].finish_reason == "length"
    usages = (whole.usage, chunks[-1].usage)
    assert [(one.prompt_tokens, one.completion_tokens) for one in usages if one] == [(22, 24)] * 2
    assert events
    assert not any("Hello" in event for event in events)


async def test_its_errors_are_typed(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "Hello"}]
        )
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "x" * 500}]
        )
    assert long.value.code == "context_length_exceeded"


async def test_it_lists_and_retrieves_models(client: openai.AsyncOpenAI) -> None:
    assert [one.id async for one in client.models.list()] == ["assistant"]
    assert (await client.models.retrieve("tiny")).owned_by == "publisher (0123456789ab)"


async def test_choices_are_told_by_index(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="assistant",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=3,
        n=2,
        seed=7,
        stream=True,
    )
    finished = {
        choice.index async for chunk in stream for choice in chunk.choices if choice.finish_reason
    }
    assert finished == {0, 1}


async def test_a_text_is_gone_on_with(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(
        model="assistant", prompt="Once", temperature=0, max_tokens=8
    )
    stream = await client.completions.create(
        model="assistant", prompt="Once", temperature=0, max_tokens=8, stream=True
    )
    text = "".join([chunk.choices[0].text async for chunk in stream])
    assert whole.choices[0].text == text
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 8


async def test_texts_become_vectors_of_length_1(client: openai.AsyncOpenAI) -> None:
    made = await client.embeddings.create(model="assistant", input=["Hello", "Hello", "Bye"])
    first, second, third = (one.embedding for one in made.data)
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-3)
    assert first == pytest.approx(second, abs=1e-4)
    assert first != pytest.approx(third, abs=1e-4)


async def test_a_response_and_its_stream_are_the_same(client: openai.AsyncOpenAI) -> None:
    whole = await client.responses.create(
        model="assistant", input="Hello", temperature=0, max_output_tokens=8
    )
    stream = await client.responses.create(
        model="assistant", input="Hello", temperature=0, max_output_tokens=8, stream=True
    )
    events = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert whole.output_text == "".join(deltas)
    assert whole.status == "incomplete"
    assert events[-1].type == "response.incomplete"
