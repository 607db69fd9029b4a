"""What Prometheus reads, and that reading it does nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.scraping import samples
from simulators.told_models import ToldModels
from sprat_agent.api import genai
from sprat_agent.api.recorder import CANCELLED, Histogram, Kind, Recorder
from sprat_agent.runtime.faults import (
    InsufficientMemoryError,
    QueueFullError,
    WorkerCrashedError,
)

ASSISTANT = (("gen_ai_request_model", "assistant"),)
CHAT = (("gen_ai_operation_name", "chat"), *ASSISTANT)
QUESTION = {"model": "tiny@1.0.0", "messages": [{"role": "user", "content": "a secret"}]}


async def scraped(http: httpx.AsyncClient) -> Mapping[tuple[object, ...], float]:
    response = await http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "secret" not in response.text
    return samples(response.text)


async def test_answers_are_counted_by_alias(http: httpx.AsyncClient) -> None:
    for _ in range(2):
        await http.post("/v1/chat/completions", json=QUESTION)
    found = await scraped(http)
    assert found["sprat_requests_total", ("error_type", ""), *CHAT] == 2
    assert found["sprat_tokens_total", *ASSISTANT, ("gen_ai_token_type", "input")] == 6
    assert found["sprat_tokens_total", *ASSISTANT, ("gen_ai_token_type", "output")] == 4
    assert found["sprat_request_duration_seconds_count", *CHAT] == 2
    assert found["sprat_time_to_first_token_seconds_count", *CHAT] == 2
    # 20 ms for the one token after the first, twice
    assert found["sprat_time_per_output_token_seconds_sum", *CHAT] == pytest.approx(0.04)
    assert found["sprat_requests_running", *ASSISTANT] == 0


async def test_what_was_not_answered_is_counted_by_its_code(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.refusal = QueueFullError("full")
    await http.post("/v1/chat/completions", json=QUESTION)
    told.refusal, told.script = None, ["Hel", WorkerCrashedError("died")]
    await http.post("/v1/chat/completions", json=QUESTION)
    await http.post("/v1/chat/completions", json={**QUESTION, "model": "gpt-4"})
    found = await scraped(http)
    assert found["sprat_requests_total", ("error_type", "queue_full"), *CHAT] == 1
    assert found["sprat_requests_total", ("error_type", "worker_crashed"), *CHAT] == 1
    nobody = (("gen_ai_operation_name", "chat"), ("gen_ai_request_model", "none"))
    assert found["sprat_requests_total", ("error_type", "model_not_found"), *nobody] == 1
    assert found["sprat_requests_rejected_total", ("reason", "queue_full")] == 1
    assert ("sprat_requests_rejected_total", ("reason", "worker_crashed")) not in found
    assert ("sprat_tokens_total", *ASSISTANT, ("gen_ai_token_type", "input")) not in found


async def test_texts_that_no_model_took_are_counted_as_rejected(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.refusal = InsufficientMemoryError("too large")
    await http.post("/v1/embeddings", json={"model": "assistant", "input": "a secret"})
    told.refusal = WorkerCrashedError("died")
    await http.post("/v1/embeddings", json={"model": "assistant", "input": "a secret"})
    found = await scraped(http)
    assert found["sprat_requests_rejected_total", ("reason", "insufficient_memory")] == 1
    assert ("sprat_requests_rejected_total", ("reason", "worker_crashed")) not in found


async def test_an_application_that_goes_away_is_counted_and_no_longer_runs(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    told.script = ["Hel", None]
    async with http.stream("POST", "/v1/chat/completions", json={**QUESTION, "stream": True}) as s:
        await anext(s.aiter_bytes())
        async with httpx.AsyncClient(base_url=http.base_url) as other:
            assert (await scraped(other))["sprat_requests_running", *ASSISTANT] == 1
    await told.cancelled.wait()
    async with httpx.AsyncClient(base_url=http.base_url) as other:
        found = await scraped(other)
    assert found["sprat_requests_running", *ASSISTANT] == 0
    assert found["sprat_requests_total", ("error_type", "cancelled"), *CHAT] == 1


def test_an_application_that_went_away_while_it_waited_was_not_turned_away() -> None:
    recorder = Recorder()
    recorder.ended(Kind("assistant", genai.CHAT), CANCELLED, None, 1.0)
    assert recorder.requests[Kind("assistant", genai.CHAT), CANCELLED] == 1
    assert not recorder.rejected


async def test_models_are_told_without_asking_them(
    http: httpx.AsyncClient, told: ToldModels
) -> None:
    names = (("model", "tiny"), ("variant", "q4_0"), ("version", "1.0.0"))
    loaded = ("sprat_model_loaded", *ASSISTANT, *names)
    assert (await scraped(http))[loaded] == 1
    told.reason = "it is being loaded"
    found = await scraped(http)
    assert found["sprat_model_can_answer", *ASSISTANT] == 0
    assert found["sprat_requests_queued", *ASSISTANT] == 0
    assert told.asked == []


async def test_names_have_the_prefix_and_no_colons(http: httpx.AsyncClient) -> None:
    await http.post("/v1/chat/completions", json=QUESTION)
    names = {str(key[0]) for key in await scraped(http)}
    assert names
    assert all(name.startswith("sprat_") and ":" not in name for name in names)


def test_its_library_is_imported_by_the_first_scrape_only() -> None:
    code = "import sys, sprat_agent.api.app; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.lists(st.floats(0, 1000)))
def test_a_histogram_counts_each_value_where_it_belongs(values: list[float]) -> None:
    histogram = Histogram(genai.DURATION_BOUNDS)
    for value in values:
        histogram.observe(value)
    for index, bound in enumerate(genai.DURATION_BOUNDS):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)


def test_the_bounds_of_histograms_rise() -> None:
    for bounds in (genai.DURATION_BOUNDS, genai.FIRST_TOKEN_BOUNDS, genai.PER_TOKEN_BOUNDS):
        assert list(bounds) == sorted(set(bounds))
