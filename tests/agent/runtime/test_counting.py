"""Prompts counted by real worker processes whose engines do as they are told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from simulators import embedding_worker, models, scripted_worker
from simulators.waiting import until
from simulators.workbench import PLENTY, QUICK, CountedCrashes, say
from sprat_agent.runtime.faults import ModelNotFoundError, RequestRefusedError, WorkerCrashedError
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Text


def supervisor_of(folder: Path, command: tuple[str, ...]) -> Supervisor:
    return Supervisor(
        PLENTY,
        folder / "run",
        lambda _tag, _subject, _details: None,
        crashes=CountedCrashes(),
        threads=1,
        limits=QUICK,
        command=command,
    )


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    made = supervisor_of(tmp_path, (sys.executable, embedding_worker.__file__))
    await made.load_committed(models.loadable(models.write_model(tmp_path / "one.gguf")))
    yield made
    await made.close()


async def test_a_count_says_which_model_it_is_of(supervisor: Supervisor) -> None:
    found = await supervisor.counting("tiny@1.0.0", Text("hello"))
    assert (found.tokens, found.loadable.release) == (3, "1.0.0")
    with pytest.raises(ModelNotFoundError):
        await supervisor.counting("another", Text("hello"))
    with pytest.raises(RequestRefusedError) as refused:
        await supervisor.counting("assistant", Text("refuse"))
    assert refused.value.code == "messages_refused"


@pytest.mark.parametrize(
    ("order", "reason"),
    [("text", "sent a text, asked for a count"), ("vectors", "sent vectors that nobody asked for")],
)
async def test_a_worker_that_answers_something_else_is_killed(
    supervisor: Supervisor, order: str, reason: str
) -> None:
    with pytest.raises(WorkerCrashedError, match=reason):
        await supervisor.counting("assistant", Text(order))
    assert (await supervisor.counting("assistant", Text("hello"))).tokens == 3


async def test_a_busy_model_counts_at_once_and_is_not_busier_for_it(tmp_path: Path) -> None:
    made = supervisor_of(tmp_path, scripted_worker.command(tmp_path))
    await made.load_committed(models.loadable(models.write_model(tmp_path / "one.gguf")))
    async with made.answering("assistant", say("hold")) as answer, asyncio.timeout(20):
        assert (await anext(answer)).text == "held"
        assert (await made.counting("assistant", Text("hello"))).tokens == 5
        assert made.statuses()[0].busy == 1
    await until(lambda: made.statuses()[0].busy == 0)
    await made.close()
