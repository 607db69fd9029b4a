"""Several models under a budget that does not hold them all: every one answers, in turn."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from msgspec import structs
from simulators import scripted_worker
from simulators.waiting import until
from simulators.workbench import QUICK, Bench, say
from sprat_agent.runtime import faults
from sprat_agent.runtime.served import Condition
from sprat_agent.sync.ports import ExecutionError, Loadable, Serving
from sprat_proto.fit import MIB
from sprat_proto.states import ModelState, ReasonCode

TINY_MIB = 67  # what a tiny model takes, by the rule of fit
ONE_FITS = 100 * MIB
TWO_FIT = 150 * MIB
MANY = replace(QUICK, max_queued=50)
PINNED = Serving(is_pinned=True)


@pytest.fixture
async def tight(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, budget_bytes=ONE_FITS, limits=MANY)
    yield made
    await made.supervisor.close()
    assert made.most_bytes <= ONE_FITS


@pytest.fixture
def other(two: Loadable) -> Loadable:
    return replace(two, alias="other")


async def load(bench: Bench, *models: Loadable) -> None:
    for one in models:
        await bench.supervisor.load_committed(one)


def conditions(bench: Bench) -> dict[str, Condition]:
    return {alias: one.condition for alias, one in bench.statuses().items()}


async def test_what_does_not_fit_beside_the_others_is_cold_and_can_be_asked(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    cold = tight.statuses()["other"]
    assert (cold.condition, cold.can_answer, cold.reason) == (Condition.COLD, True, "")
    assert (cold.memory_bytes, cold.slots, cold.worker_pid) == (0, 0, None)
    states = {one.loadable.alias: one.state for one in tight.supervisor.running()}
    assert states == {"assistant": ModelState.LOADED, "other": ModelState.COLD}


async def test_a_request_loads_it_in_the_place_of_an_idle_one(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    assert await tight.ask("hello", "other") == ("2.0.0", "hello")
    assert conditions(tight) == {"assistant": Condition.COLD, "other": Condition.READY}
    assert await tight.ask("hello", "assistant") == ("1.0.0", "hello")
    assert conditions(tight) == {"assistant": Condition.READY, "other": Condition.COLD}
    assert len(tight.pids()) == 1


async def test_loading_a_cold_model_again_changes_nothing(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    pids = tight.pids()
    await load(tight, other, one)
    assert tight.pids() == pids
    assert conditions(tight)["other"] is Condition.COLD


async def test_concurrent_requests_to_two_models_are_all_answered(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    names = ["assistant", "other", "other", "assistant"] * 3
    answers = await asyncio.gather(*(tight.ask(f"no {at}", name) for at, name in enumerate(names)))
    releases = {"assistant": "1.0.0", "other": "2.0.0"}
    assert answers == [(releases[name], f"no {at}") for at, name in enumerate(names)]


async def test_requests_are_answered_in_the_order_of_their_arrival_whatever_the_model(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    order: list[str] = []

    async def ask(name: str, text: str) -> None:
        await tight.ask(text, name)
        order.append(text)

    async with tight.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        tasks: list[asyncio.Task[None]] = []
        for name, text in (("other", "1"), ("assistant", "2"), ("other", "3")):
            tasks.append(asyncio.create_task(ask(name, text)))
            await until(lambda: sum(one.queued for one in tight.statuses().values()) == len(tasks))
        tight.control(scripted_worker.GO_ON)
        assert [piece async for piece in answer] == []
    await asyncio.gather(*tasks)
    assert order == ["1", "2", "3"]


async def test_a_busy_model_finishes_its_answer_before_it_gives_way(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    pid = tight.pid()
    async with tight.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        waiting = asyncio.create_task(tight.ask("hello", "other"))
        await until(lambda: tight.statuses()["other"].queued == 1)
        assert tight.pid() == pid
        tight.control(scripted_worker.GO_ON)
        assert [piece async for piece in answer] == []
        assert answer.done
    assert await waiting == ("2.0.0", "hello")


async def test_interactive_requests_overtake_batch_ones(tight: Bench, one: Loadable) -> None:
    await load(tight, one)
    order: list[str] = []

    async def ask(text: str, *, is_batch: bool) -> None:
        asked = tight.supervisor.answering("assistant", say(text), is_batch=is_batch)
        async with asked as answer:
            order.extend([piece.text.strip() async for piece in answer])

    async with tight.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        batch = asyncio.create_task(ask("batch", is_batch=True))
        await until(lambda: tight.statuses()["assistant"].queued == 1)
        interactive = asyncio.create_task(ask("interactive", is_batch=False))
        await until(lambda: tight.statuses()["assistant"].queued == 2)
    await asyncio.gather(batch, interactive)
    assert order == ["interactive", "batch"]


@pytest.mark.parametrize("way", ["held for too long", "cancelled"])
async def test_a_model_is_open_again_when_nobody_wants_its_memory_any_more(
    tmp_path: Path, one: Loadable, other: Loadable, way: str
) -> None:
    limits = replace(MANY, hold_s=0.3) if way == "held for too long" else MANY
    bench = Bench(tmp_path, budget_bytes=ONE_FITS, limits=limits)
    await load(bench, one, other)
    pid = bench.pid()
    async with bench.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        wanting = asyncio.create_task(bench.ask("hello", "other"))
        await until(lambda: bench.statuses()["other"].queued == 1)
        later = asyncio.create_task(bench.ask("later"))
        if way == "cancelled":
            await until(lambda: bench.statuses()["assistant"].queued == 1)
            wanting.cancel()
            await asyncio.wait([wanting])
        else:
            with pytest.raises(faults.ModelLoadingError, match="waits for memory") as caught:
                await wanting
            assert caught.value.retry_after_s
        bench.control(scripted_worker.GO_ON)
        assert [piece async for piece in answer] == []
    assert await later == ("1.0.0", "later")
    assert bench.pid() == pid
    await bench.supervisor.close()


async def test_an_idle_model_answers_at_once_when_its_memory_is_not_wanted_any_more(
    tmp_path: Path, two: Loadable
) -> None:
    bench = Bench(tmp_path, budget_bytes=TWO_FIT, limits=MANY)
    big = replace(two, facts=structs.replace(two.facts, weights_bytes=80 * MIB))
    await load(bench, *(replace(two, alias=name) for name in "ab"), replace(big, alias="big"))
    async with bench.supervisor.answering("a", say("hold")) as answer:
        await anext(answer)
        wanting = asyncio.create_task(bench.ask("hello", "big"))  # needs the memory of both
        await until(lambda: bench.statuses()["big"].queued == 1)
        held = asyncio.create_task(bench.ask("hello", "b"))
        await until(lambda: bench.statuses()["b"].queued == 1)
        wanting.cancel()
        assert await held == ("2.0.0", "hello")
        assert bench.statuses()["a"].busy == 1
    await bench.supervisor.close()


async def test_the_least_recently_used_model_gives_way_and_looking_is_no_use(
    tmp_path: Path, two: Loadable
) -> None:
    bench = Bench(tmp_path, budget_bytes=TWO_FIT, limits=MANY)
    await load(bench, *(replace(two, alias=name) for name in "abc"))
    assert conditions(bench) == {
        "a": Condition.READY,
        "b": Condition.READY,
        "c": Condition.COLD,
    }
    await bench.ask("hello", "a")
    for _ in range(3):
        bench.supervisor.find("b")
        bench.supervisor.find("c")
        bench.supervisor.offered()
        bench.supervisor.running()
        bench.supervisor.statuses()
    assert len(bench.pids()) == 2
    await bench.ask("hello", "c")
    assert conditions(bench) == {
        "a": Condition.READY,
        "b": Condition.COLD,
        "c": Condition.READY,
    }
    assert bench.most_bytes <= TWO_FIT
    await bench.supervisor.close()


async def test_a_pinned_model_stays_and_what_does_not_fit_beside_it_is_refused(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, replace(one, serving=PINNED))
    pid = tight.pid()
    with pytest.raises(ExecutionError) as caught:
        await load(tight, other)
    assert caught.value.code is ReasonCode.INSUFFICIENT_MEMORY
    takes = f"{TINY_MIB} MiB"
    sentence = rf"'other' needs {takes}.*budget of 100 MiB.*pinned.*tiny@1\.0\.0\+f32 {takes}"
    with pytest.raises(faults.InsufficientMemoryError, match=sentence):
        await tight.ask("hello", "other")
    assert conditions(tight) == {"assistant": Condition.READY, "other": Condition.BROKEN}
    assert tight.pid() == pid
    await tight.supervisor.unload("assistant")
    assert await tight.ask("hello", "other") == ("2.0.0", "hello")
    assert conditions(tight) == {"other": Condition.READY}


async def test_another_gives_way_before_a_pinned_model_that_was_used_longer_ago(
    tmp_path: Path, two: Loadable
) -> None:
    bench = Bench(tmp_path, budget_bytes=TWO_FIT, limits=MANY)
    await load(bench, replace(two, alias="a", serving=PINNED))
    await load(bench, *(replace(two, alias=name) for name in "bc"))
    await bench.ask("hello", "b")
    await bench.ask("hello", "c")
    assert conditions(bench) == {
        "a": Condition.READY,
        "b": Condition.COLD,
        "c": Condition.READY,
    }
    await bench.supervisor.close()


async def test_a_pinned_model_has_another_give_way_at_once(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, replace(other, serving=PINNED))
    assert conditions(tight) == {"assistant": Condition.COLD, "other": Condition.READY}
    with pytest.raises(faults.InsufficientMemoryError):
        await tight.ask("hello")


async def test_a_killed_worker_costs_its_answer_and_the_next_request_is_answered(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    for name, release in (("assistant", "1.0.0"), ("other", "2.0.0")):
        async with tight.supervisor.answering(name, say("hold")) as answer:
            await anext(answer)
            os.kill(tight.pid(name), signal.SIGKILL)
            with pytest.raises(faults.WorkerCrashedError, match="SIGKILL"):
                await anext(answer)
        assert await tight.ask("hello", name) == (release, "hello")


async def test_a_cold_model_that_fails_to_load_is_tried_again(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    tight.control(scripted_worker.FAIL_LOAD, "2")
    assert await tight.ask("hello", "other") == ("2.0.0", "hello")
    assert await tight.ask("hello", "assistant") == ("1.0.0", "hello")


async def test_a_cold_model_that_never_loads_does_not_keep_the_memory(
    tmp_path: Path, one: Loadable, other: Loadable
) -> None:
    bench = Bench(tmp_path, budget_bytes=ONE_FITS, limits=replace(MANY, hold_s=1.5))
    bad = replace(other, files=(replace(other.files[0], sha256="0" * 64),))
    await load(bench, one, bad)
    with pytest.raises(faults.ModelLoadingError, match="SHA-256"):
        await bench.ask("hello", "other")
    assert await bench.ask("hello", "assistant") == ("1.0.0", "hello")
    await bench.supervisor.close()


async def test_unloading_a_cold_model_refuses_those_who_wait_for_it(
    tight: Bench, one: Loadable, other: Loadable
) -> None:
    await load(tight, one, other)
    async with tight.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        waiting = asyncio.create_task(tight.ask("hello", "other"))
        await until(lambda: tight.statuses()["other"].queued == 1)
        await tight.supervisor.unload("other")
        with pytest.raises(faults.ModelNotFoundError):
            await waiting


async def test_status_tells_slots_and_how_many_are_busy(tight: Bench, one: Loadable) -> None:
    await load(tight, one)
    async with tight.supervisor.answering("assistant", say("hold")) as answer:
        await anext(answer)
        status = tight.statuses()["assistant"]
        assert (status.slots, status.busy) == (1, 1)
        assert round(status.memory_bytes / MIB) == TINY_MIB
    await until(lambda: tight.statuses()["assistant"].busy == 0)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happens_to_requests_and_workers_the_others_are_answered(
    tight: Bench, two: Loadable, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    await load(tight, *(replace(two, alias=name) for name in "abc"))

    async def ask(order: str, name: str) -> None:
        if order == "crash":
            with pytest.raises(faults.WorkerCrashedError):
                await tight.ask(order, name)
        else:
            assert await tight.ask(order, name) == ("2.0.0", order)

    asked: list[asyncio.Task[None]] = []
    given_up: list[asyncio.Task[None]] = []
    for at in range(16):
        order = random.choice(["crash", f"no {at}", f"no {at}", f"no {at}"])
        asked.append(asyncio.create_task(ask(order, random.choice("abc"))))
        for _ in range(random.randrange(30)):
            await asyncio.sleep(0)
        if random.random() < 0.2:
            given_up.append(asked.pop())
            given_up[-1].cancel()
    await asyncio.gather(*asked)
    await asyncio.wait(given_up)
    for name in "abc":
        await ask("in the end", name)
    assert len(tight.pids()) == 1


@pytest.mark.parametrize("steps", range(6))
async def test_closing_at_any_moment_of_an_eviction_leaves_no_worker(
    tight: Bench, one: Loadable, other: Loadable, steps: int
) -> None:
    await load(tight, one, other)
    pid = tight.pid()
    waiting = asyncio.create_task(tight.ask("hello", "other"))
    for _ in range(steps**3):
        await asyncio.sleep(0)
    await tight.supervisor.close()
    with pytest.raises(faults.ModelNotFoundError):
        await waiting
    assert tight.pids() == []
    await until(lambda: not Path(f"/proc/{pid}").exists())
    assert not list((tight.folder / "run").iterdir())
