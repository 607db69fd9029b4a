"""A release that crashes three times on this device is not started here any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from simulators import models, scripted_worker
from simulators.waiting import until
from simulators.workbench import QUICK, Bench, CountedCrashes
from sprat_agent.runtime import faults
from sprat_agent.runtime.served import Condition
from sprat_agent.sync.ports import ExecutionError, Loadable
from sprat_proto.manifest import Activation, GoldenPrompt
from sprat_proto.states import ReasonCode


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    limits = replace(QUICK, hold_s=0.2)
    crashes = CountedCrashes(do_count=True)
    made = Bench(tmp_path / "bench", limits=limits, crashes=crashes)
    yield made
    await made.supervisor.close()


@pytest.fixture
def one(model_files: list[Path]) -> Loadable:
    return models.loadable(model_files)


async def crash(bench: Bench) -> None:
    await bench.can_answer()
    with pytest.raises(faults.WorkerCrashedError):
        await bench.ask("crash")


async def test_three_crashes_are_enough(bench: Bench, one: Loadable) -> None:
    told: list[str] = []
    bench.supervisor.on_quarantine = told.append
    await bench.supervisor.load_committed(one)
    for _ in range(3):
        assert told == []
        await crash(bench)
    await until(lambda: told == ["assistant"])
    (status,) = bench.supervisor.statuses()
    assert (status.condition, status.can_answer) == (Condition.BROKEN, False)
    assert "crashed 3 times on this device" in status.reason
    assert bench.supervisor.running() == ()
    assert bench.tags().count("agent:model:crashed") == 3
    assert bench.tags()[-1] == "agent:model:quarantined"


async def test_what_is_in_quarantine_is_refused_also_after_a_restart(
    bench: Bench, one: Loadable
) -> None:
    for _ in range(3):
        bench.crashes.note(one.digest)
    for load in (bench.supervisor.load_committed, bench.supervisor.load_candidate):
        with pytest.raises(ExecutionError, match="publish a mended release") as caught:
            await load(one)
        assert caught.value.code is ReasonCode.QUARANTINED
    assert bench.pids() == []


async def test_another_release_is_not_concerned(bench: Bench, one: Loadable) -> None:
    for _ in range(3):
        bench.crashes.note(one.digest)
    await bench.supervisor.load_committed(models.with_release(one, "1.0.1"))
    assert await bench.ask("hello") == ("1.0.1", "hello")


async def test_crashes_at_the_load_count_and_what_was_refused_does_not(
    bench: Bench, one: Loadable
) -> None:
    bench.control(scripted_worker.FAIL_LOAD, "1")
    with pytest.raises(ExecutionError):
        await bench.supervisor.load_candidate(one)
    assert bench.crashes.count(one.digest) == 0
    bench.control(scripted_worker.CRASH_LOAD)
    for expected in (1, 2, 3):
        with pytest.raises(ExecutionError):
            await bench.supervisor.load_candidate(one)
        assert bench.crashes.count(one.digest) == expected
    with pytest.raises(ExecutionError) as caught:
        await bench.supervisor.load_candidate(one)
    assert caught.value.code is ReasonCode.QUARANTINED


async def test_crashes_at_the_probe_count_though_the_candidate_is_dropped_at_once(
    bench: Bench, one: Loadable
) -> None:
    for expected in (1, 2, 3):
        await bench.supervisor.load_candidate(one)
        activation = Activation(probe=[GoldenPrompt("crash", "")])
        fault = (await bench.supervisor.probe("assistant", activation, 0)).fault
        assert fault is not None
        assert fault.code is ReasonCode.WORKER_CRASHED
        await bench.supervisor.drop_candidate("assistant")
        assert bench.crashes.count(one.digest) == expected
    assert bench.tags().count("agent:model:crashed") == 3
    assert bench.tags().count("agent:model:quarantined") == 1


async def test_an_alias_that_stands_for_what_is_in_quarantine_says_why_it_does_not_answer(
    bench: Bench, one: Loadable
) -> None:
    for _ in range(3):
        bench.crashes.note(one.digest)
    with pytest.raises(ExecutionError):
        await bench.supervisor.load_committed(one)
    with pytest.raises(faults.ModelLoadingError, match="crashed 3 times on this device"):
        await bench.ask("hello")
    assert bench.supervisor.running() == ()


async def test_what_takes_the_place_of_a_release_in_quarantine_is_tried_again(
    bench: Bench, one: Loadable
) -> None:
    for _ in range(3):
        bench.crashes.note(one.digest)
    with pytest.raises(ExecutionError):
        await bench.supervisor.load_committed(one)
    bench.control(scripted_worker.FAIL_LOAD, "1")
    with pytest.raises(ExecutionError) as caught:
        await bench.supervisor.load_committed(models.with_release(one, "0.9.0"))
    assert caught.value.code is ReasonCode.LOAD_FAILED
    await bench.can_answer()
    assert await bench.ask("hello") == ("0.9.0", "hello")


async def test_ending_a_worker_ourselves_is_no_crash(bench: Bench, one: Loadable) -> None:
    for _ in range(4):
        await bench.supervisor.load_committed(one)
        await bench.supervisor.unload("assistant")
    assert bench.crashes.count(one.digest) == 0
