"""Ollama's and Anthropic's official clients, with llama.cpp in its worker."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# The annotations of Ollama's client are partial.

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import httpx
import ollama
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
async def url(tmp_path: Path, model_files: list[Path]) -> AsyncIterator[str]:
    supervisor = Supervisor(
        PLENTY,
        tmp_path / "run",
        lambda _tag, _subject, _details: None,
        crashes=CountedCrashes(),
        threads=1,
        limits=QUICK,
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
    yield await api.start()
    await api.stop()
    await supervisor.close()


async def test_each_dialect_tells_the_same_answer_whole_and_in_a_stream(url: str) -> None:
    options = {"temperature": 0, "num_predict": 16}
    asked = [{"role": "user", "content": "Hello"}]
    async with ollama.AsyncClient(host=url) as client:
        whole = await client.chat("assistant", asked, options=options)
        stream = await client.chat("assistant", asked, options=options, stream=True)
        streamed = "".join([part.message.content or "" async for part in stream])
        generated = await client.generate("assistant", "Hello", options=options)
    assert (whole.done_reason, whole.eval_count) == ("length", 16)
    assert whole.total_duration
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as other,
        other.messages.stream(
            model="assistant",
            max_tokens=16,
            extra_body={"temperature": 0},
            messages=[{"role": "user", "content": "Hello"}],
        ) as events,
    ):
        told = await events.get_final_message()
        counted = await other.messages.count_tokens(
            model="assistant", messages=[{"role": "user", "content": "Hello"}]
        )
    assert told.stop_reason == "max_tokens"
    assert told.usage.output_tokens == 16
    text = "".join(block.text for block in told.content if block.type == "text")
    assert {whole.message.content, streamed, generated.response, text} == {text}
    assert counted.input_tokens == whole.prompt_eval_count
    async with httpx.AsyncClient(base_url=url) as http:
        figures = (await http.get("/metrics")).text
    line = 'sprat_tokens_total{gen_ai_request_model="assistant",gen_ai_token_type="output"} 64.0'
    assert line in figures
