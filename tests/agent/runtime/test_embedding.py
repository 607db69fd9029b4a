"""Vectors from a real worker process whose engine does as it is told."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from simulators import embedding_worker, models
from simulators.waiting import until
from simulators.workbench import PLENTY, QUICK, CountedCrashes
from sprat_agent.runtime.faults import RequestRefusedError, WorkerCrashedError
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Request, Text, Tokens

COMMAND = (sys.executable, embedding_worker.__file__)
HELLO = (Text("hello"), Tokens((1, 2)))


@pytest.fixture
async def events() -> list[tuple[str, Mapping[str, object]]]:
    return []


@pytest.fixture
async def supervisor(
    tmp_path: Path, events: list[tuple[str, Mapping[str, object]]]
) -> AsyncIterator[Supervisor]:
    made = Supervisor(
        PLENTY,
        tmp_path / "run",
        lambda tag, _subject, details: events.append((tag, details)),
        crashes=CountedCrashes(),
        threads=1,
        limits=QUICK,
        command=COMMAND,
    )
    await made.load_committed(models.loadable(models.write_model(tmp_path / "one.gguf")))
    yield made
    await made.close()


async def test_each_text_gets_a_vector_and_the_journal_no_text(
    supervisor: Supervisor, events: list[tuple[str, Mapping[str, object]]]
) -> None:
    made = await supervisor.embedding("assistant", HELLO)
    assert [struct.unpack("<f", one) for one in made.vectors] == [(0.0,), (1.0,)]
    assert (made.prompt_tokens, made.loadable.release) == (5, "1.0.0")
    assert (await supervisor.embedding("tiny", HELLO, is_truncated=True)).prompt_tokens == 7
    assert "hello" not in str(events)


async def test_a_refusal_is_the_models_own(supervisor: Supervisor) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        await supervisor.embedding("assistant", (Text("refuse"),))
    assert refused.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("order", "reason"),
    [("text", "sent a text, asked for vectors"), ("stranger", "sent vectors that nobody")],
)
async def test_a_worker_that_answers_something_else_is_killed(
    supervisor: Supervisor, order: str, reason: str
) -> None:
    with pytest.raises(WorkerCrashedError, match=reason):
        await supervisor.embedding("assistant", (Text(order),))
    assert (await supervisor.embedding("assistant", HELLO)).prompt_tokens == 5


async def test_a_worker_that_answers_a_text_with_vectors_is_killed(supervisor: Supervisor) -> None:
    with pytest.raises(WorkerCrashedError, match="sent vectors that nobody asked for"):
        async with supervisor.answering("assistant", Request(Text("hello"))) as answer:
            await anext(answer)


async def test_a_cancelled_order_frees_its_slot(supervisor: Supervisor) -> None:
    holding = asyncio.create_task(supervisor.embedding("assistant", (Text("hold"),)))
    await until(lambda: supervisor.statuses()[0].busy == 1)
    waiting = asyncio.create_task(supervisor.embedding("assistant", HELLO))
    await until(lambda: supervisor.statuses()[0].queued == 1)
    holding.cancel()
    async with asyncio.timeout(20):
        assert (await waiting).prompt_tokens == 5
