"""A model's adapters on their way to the worker: verified, counted, and there or not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from simulators import models
from simulators.workbench import QUICK, Bench, CountedCrashes, say
from sprat_agent.runtime import faults
from sprat_agent.runtime.served import Condition
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.sync.ports import ExecutionError, Loadable
from sprat_proto.fit import MIB
from sprat_proto.states import ReasonCode


@pytest.fixture
def adapted(one: Loadable, tmp_path: Path) -> Loadable:
    return models.with_adapters(one, tmp_path, "polite", "rude")


async def test_a_jailed_llama_cpp_answers_with_each(adapted: Loadable, tmp_path: Path) -> None:
    supervisor = Supervisor(
        200 * MIB, tmp_path / "run", _ignore, crashes=CountedCrashes(), threads=1, limits=QUICK
    )
    answers: list[str] = []
    await supervisor.load_committed(adapted)
    for name in ("", "polite", "rude", ""):
        request = structs.replace(say("Hello"), max_tokens=16, is_fresh=True, adapter=name)
        async with supervisor.answering("assistant", request) as answer:
            answers.append("".join([piece.text async for piece in answer]))
    await supervisor.close()
    assert len(set(answers)) == 3
    assert answers[0] == answers[3]


def _ignore(*_: object) -> None:
    """Nobody audits here."""


async def test_all_adapters_count_in_the_memory_of_a_model(
    bench: Bench, one: Loadable, adapted: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    alone = bench.memory_bytes()
    await bench.supervisor.unload("assistant")
    await bench.supervisor.load_committed(adapted)
    sizes = [file.file.path.stat().st_size for file in adapted.adapters]
    assert bench.memory_bytes() - alone == adapted.adapters_bytes == sum(sizes) > 0


async def test_an_adapter_that_is_not_what_was_signed_is_refused(
    bench: Bench, adapted: Loadable
) -> None:
    path = adapted.adapters[1].file.path
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ExecutionError, match=r"rude\.gguf is to have SHA-256") as caught:
        await bench.supervisor.load_candidate(adapted)
    assert caught.value.code is ReasonCode.DIGEST_MISMATCH


async def test_an_adapter_of_another_model_is_refused(
    bench: Bench, one: Loadable, tmp_path: Path
) -> None:
    (wide,) = models.write_model(tmp_path / "wide.gguf", models.Shape(width=128))
    other = models.with_adapters(models.loadable([wide]), tmp_path, "broad")
    with pytest.raises(ExecutionError, match=r"adapter broad: expected .* of dimensions") as caught:
        await bench.supervisor.load_candidate(replace(one, adapters=other.adapters))
    assert caught.value.code is ReasonCode.MODEL_FILE_INVALID


async def test_a_candidate_is_not_asked_for_an_adapter_that_it_lacks(
    bench: Bench, adapted: Loadable, two: Loadable
) -> None:
    await bench.supervisor.load_committed(adapted)
    await bench.supervisor.load_candidate(two)
    bench.supervisor.share_traffic("assistant", 100)
    assert await bench.ask("hello") == ("2.0.0", "hello")
    request = structs.replace(say("hello"), adapter="rude")
    async with bench.supervisor.answering("assistant", request) as answer:
        assert answer.loadable == adapted


async def test_an_adapter_that_is_not_there_is_named_and_wakes_no_model(
    tmp_path: Path, one: Loadable, adapted: Loadable
) -> None:
    bench = Bench(tmp_path / "bench", budget_bytes=100 * MIB)  # for one of them
    await bench.supervisor.load_committed(replace(one, alias="other"))
    await bench.supervisor.load_committed(adapted)
    request = structs.replace(say("Hello"), adapter="shy")
    with pytest.raises(faults.ModelNotFoundError, match="'shy' is not here; there are: polite, ru"):
        async with bench.supervisor.answering("assistant", request):
            pytest.fail("there is no such adapter")
    with pytest.raises(faults.ModelNotFoundError, match="'shy' is not here; there are: none"):
        async with bench.supervisor.answering("other", request):
            pytest.fail("there is no adapter at all")
    assert bench.statuses()["assistant"].condition is Condition.COLD
    await bench.supervisor.close()
