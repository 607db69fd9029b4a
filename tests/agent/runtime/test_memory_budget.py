"""The budget is a promise: beside each other if both fit, else one in the place of the other."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from simulators import scripted_worker
from simulators.waiting import until
from simulators.workbench import QUICK, Bench, say
from sprat_agent.runtime import faults
from sprat_agent.runtime.served import Condition
from sprat_agent.sync.ports import ExecutionError, Loadable
from sprat_proto.fit import MIB
from sprat_proto.manifest import Activation
from sprat_proto.states import ModelState, ReasonCode

ONE_FITS = 100 * MIB  # a tiny model takes 67 MiB, nearly all of it the worker


@pytest.fixture
async def tight(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, budget_bytes=ONE_FITS)
    yield made
    await made.supervisor.close()


async def test_a_candidate_that_does_not_fit_beside_takes_the_place(
    tight: Bench, one: Loadable, two: Loadable
) -> None:
    await tight.supervisor.load_committed(one)
    await tight.supervisor.load_candidate(two)
    assert len(tight.pids()) == 1
    assert [one.state for one in tight.supervisor.running()] == [ModelState.COLD]
    held = asyncio.create_task(tight.ask("hello"))
    await until(lambda: tight.supervisor.statuses()[0].queued == 1)
    await tight.supervisor.probe("assistant", Activation(), 0)
    assert await held == ("2.0.0", "hello")
    await tight.supervisor.promote("assistant")
    assert len(tight.pids()) == 1
    assert await tight.ask("hello") == ("2.0.0", "hello")


async def test_dropping_such_a_candidate_brings_the_committed_back(
    tight: Bench, one: Loadable, two: Loadable
) -> None:
    await tight.supervisor.load_committed(one)
    await tight.supervisor.load_candidate(two)
    held = asyncio.create_task(tight.ask("hello"))
    await tight.supervisor.drop_candidate("assistant")
    assert await held == ("1.0.0", "hello")
    assert [one.state for one in tight.supervisor.running()] == [ModelState.LOADED]


async def test_when_such_a_candidate_cannot_be_loaded_the_committed_answers_again(
    tight: Bench, one: Loadable, two: Loadable
) -> None:
    await tight.supervisor.load_committed(one)
    tight.control(scripted_worker.FAIL_LOAD, "1")
    with pytest.raises(ExecutionError, match="told to fail"):
        await tight.supervisor.load_candidate(two)
    assert await tight.ask("hello") == ("1.0.0", "hello")
    os.kill(tight.pid(), signal.SIGKILL)
    await until(lambda: "agent:model:crashed" in tight.tags())
    assert await tight.ask("hello") == ("1.0.0", "hello")


async def test_a_cancelled_load_brings_the_committed_back(
    tight: Bench, one: Loadable, two: Loadable
) -> None:
    await tight.supervisor.load_committed(one)
    tight.control(scripted_worker.HANG_LOAD)
    loading = asyncio.create_task(tight.supervisor.load_candidate(two))
    await until(lambda: tight.supervisor.statuses()[0].condition is Condition.SET_ASIDE)
    (tight.controls / scripted_worker.HANG_LOAD).unlink()
    loading.cancel()
    await asyncio.wait([loading])
    assert await tight.ask("hello") == ("1.0.0", "hello")


async def test_answers_under_way_are_finished_before_a_candidate_takes_the_place(
    tight: Bench, one: Loadable, two: Loadable
) -> None:
    await tight.supervisor.load_committed(one)
    pid = tight.pid()
    async with tight.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        loading = asyncio.create_task(tight.supervisor.load_candidate(two))
        await until(lambda: tight.supervisor.statuses()[0].condition is Condition.SET_ASIDE)
        assert (tight.pids(), loading.done()) == ([pid], False)
        tight.control(scripted_worker.GO_ON)
        assert [piece async for piece in answer] == []
        assert answer.loadable.release == "1.0.0"
    await loading
    assert tight.most_bytes <= ONE_FITS
    await tight.supervisor.probe("assistant", Activation(), 0)
    assert await tight.ask("hello") == ("2.0.0", "hello")


async def test_a_load_that_is_cancelled_meanwhile_leaves_the_committed_where_it_is(
    tight: Bench, one: Loadable, two: Loadable
) -> None:
    await tight.supervisor.load_committed(one)
    pid = tight.pid()
    async with tight.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        loading = asyncio.create_task(tight.supervisor.load_candidate(two))
        await until(lambda: tight.supervisor.statuses()[0].condition is Condition.SET_ASIDE)
        held = asyncio.create_task(tight.ask("hello"))
        await until(lambda: tight.supervisor.statuses()[0].queued == 1)
        loading.cancel()
        await asyncio.wait([loading])
        tight.control(scripted_worker.GO_ON)
        assert [piece async for piece in answer] == []
    assert await held == ("1.0.0", "hello")
    assert tight.pids() == [pid]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: "agent:model:crashed" in tight.tags())
    assert await tight.ask("hello") == ("1.0.0", "hello")


async def test_requests_are_held_only_for_so_long(
    tmp_path: Path, one: Loadable, two: Loadable
) -> None:
    bench = Bench(tmp_path, budget_bytes=ONE_FITS, limits=replace(QUICK, hold_s=0.05))
    await bench.supervisor.load_committed(one)
    await bench.supervisor.load_candidate(two)
    with pytest.raises(faults.ModelLoadingError, match="being proved") as caught:
        await bench.ask("hello")
    assert caught.value.retry_after_s
    await bench.supervisor.close()


async def test_a_request_for_a_release_is_never_answered_by_another(
    tmp_path: Path, one: Loadable, two: Loadable
) -> None:
    bench = Bench(tmp_path, budget_bytes=ONE_FITS, limits=replace(QUICK, hold_s=0.05))
    await bench.supervisor.load_committed(one)
    await bench.supervisor.load_candidate(two)
    await bench.supervisor.probe("assistant", Activation(), 0)
    assert await bench.ask("hello") == ("2.0.0", "hello")
    with pytest.raises(faults.ModelLoadingError):
        await bench.ask("hello", "tiny@1.0.0")
    await bench.supervisor.close()


async def test_what_fits_in_no_way_is_refused_before_anything_is_ended(
    tight: Bench, one: Loadable, two: Loadable
) -> None:
    await tight.supervisor.load_committed(one)
    too_heavy = replace(two, facts=structs.replace(two.facts, weights_bytes=ONE_FITS))
    for needy in (too_heavy, replace(too_heavy, alias="other")):
        with pytest.raises(ExecutionError, match="memory budget of 100 MiB") as caught:
            await tight.supervisor.load_candidate(needy)
        assert caught.value.code is ReasonCode.INSUFFICIENT_MEMORY
    assert await tight.ask("hello") == ("1.0.0", "hello")
    assert tight.tags().count("agent:model:loaded") == 1


async def test_a_candidate_has_idle_models_of_other_aliases_give_way(
    tight: Bench, one: Loadable, two: Loadable
) -> None:
    await tight.supervisor.load_committed(one)
    await tight.supervisor.load_candidate(replace(two, alias="other"))
    assert tight.statuses()["assistant"].condition is Condition.COLD
    held = asyncio.create_task(tight.ask("hello"))
    await until(lambda: tight.statuses()["assistant"].queued == 1)
    await tight.supervisor.drop_candidate("other")
    assert await held == ("1.0.0", "hello")
    assert tight.most_bytes <= ONE_FITS


async def test_a_candidate_waits_only_so_long_for_a_busy_model_of_another_alias(
    tmp_path: Path, one: Loadable, two: Loadable
) -> None:
    limits = replace(QUICK, drain_timeout_s=0.05)
    bench = Bench(tmp_path, budget_bytes=ONE_FITS, limits=limits)
    await bench.supervisor.load_committed(one)
    async with bench.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        with pytest.raises(ExecutionError, match="did not give way") as caught:
            await bench.supervisor.load_candidate(replace(two, alias="other"))
        assert caught.value.code is ReasonCode.INSUFFICIENT_MEMORY
        bench.control(scripted_worker.GO_ON)
        assert [piece async for piece in answer] == []
    assert await bench.ask("hello") == ("1.0.0", "hello")
    await bench.supervisor.close()


async def test_room_that_others_took_meanwhile_is_not_taken_back(
    tmp_path: Path, one: Loadable, two: Loadable
) -> None:
    big = replace(one, facts=structs.replace(one.facts, weights_bytes=80 * MIB))
    bench = Bench(tmp_path, budget_bytes=160 * MIB)
    await bench.supervisor.load_committed(big)
    await bench.supervisor.load_candidate(two)  # in the place of the big one
    await bench.supervisor.load_committed(replace(two, alias="other"))
    await bench.supervisor.drop_candidate("assistant")
    assert bench.statuses()["assistant"].condition is Condition.COLD
    assert await bench.ask("hello") == ("1.0.0", "hello")
    assert bench.statuses()["other"].condition is Condition.COLD
    assert bench.most_bytes <= 160 * MIB
    await bench.supervisor.close()
