"""Each figure follows what really happens: real workers, one memory budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from simulators import models, scripted_worker
from simulators.kept_account import KeptAccount
from simulators.scraping import Samples, samples
from simulators.waiting import until
from simulators.workbench import PLENTY, QUICK, Bench, CountedCrashes, say
from sprat_agent.api.device import DeviceFigures
from sprat_agent.api.exposition import render
from sprat_agent.api.recorder import Recorded, Recorder
from sprat_agent.api.tally import Tally
from sprat_agent.kept import Kept
from sprat_agent.runtime.faults import QueueFullError, WorkerCrashedError
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.sync.ports import ExecutionError, Loadable
from sprat_proto.fit import MIB

TWO_FIT = 150 * MIB  # a tiny model takes 66 MiB
ASSISTANT = ("gen_ai_request_model", "assistant")
OTHER = ("gen_ai_request_model", "other")
EVICTED = "sprat_model_evictions_total"


class Scraped:
    """What a bench's models show, and the agent's tally of what they say."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.recorder = Recorder()
        self.models = Recorded(bench.supervisor, self.recorder, KeptAccount())

    def look(self) -> Samples:
        tally = Tally()
        for tag, _, details in self.bench.events:
            tally.note(tag, details)
        device = DeviceFigures(self.bench.budget_bytes, 1.5, {"audit": Kept(2, 300)}, 0.25, tally)
        return samples(render(self.models.statuses(), self.recorder, device).decode())

    async def ask(self, text: str, name: str = "assistant") -> None:
        async with self.models.answering(name, say(text)) as answer:
            assert [piece async for piece in answer]


@pytest.fixture
async def tight(tmp_path: Path) -> AsyncIterator[Scraped]:
    bench = Bench(tmp_path, budget_bytes=TWO_FIT, limits=replace(QUICK, max_queued=1))
    yield Scraped(bench)
    await bench.supervisor.close()


async def load(scraped: Scraped, *loadables: Loadable) -> None:
    for one in loadables:
        await scraped.bench.supervisor.load_committed(one)


def loaded(found: Samples, alias: tuple[str, str], version: str) -> float:
    names = (("model", "tiny"), ("variant", "f32"), ("version", version))
    return found["sprat_model_loaded", alias, *names]


async def test_an_eviction_is_counted_by_what_it_made_room_for(
    tight: Scraped, one: Loadable, two: Loadable
) -> None:
    third = replace(two, alias="third")
    await load(tight, one, replace(two, alias="other"), third)
    before = tight.look()
    assert before[EVICTED, ("reason", "request")] == 0
    assert loaded(before, ASSISTANT, "1.0.0") == 1
    await tight.ask("hello", "third")
    after = tight.look()
    assert after[EVICTED, ("reason", "request")] == 1
    assert after[EVICTED, ("reason", "release")] == 0
    assert loaded(after, ASSISTANT, "1.0.0") == 0


async def test_a_release_that_comes_into_memory_is_what_others_are_evicted_for(
    tight: Scraped, one: Loadable, two: Loadable
) -> None:
    await load(tight, one, replace(two, alias="other"))
    third = replace(models.with_release(one, "3.0.0"), alias="third")
    await tight.bench.supervisor.load_candidate(third)
    assert tight.look()[EVICTED, ("reason", "release")] == 1


async def test_memory_is_told_by_what_it_is_for(tight: Scraped, one: Loadable) -> None:
    kinds = ("weights", "kv", "compute", "worker")

    def used() -> list[float]:
        found = tight.look()
        assert found["sprat_memory_budget_bytes",] == TWO_FIT
        return [found["sprat_memory_used_bytes", ("kind", kind)] for kind in kinds]

    assert used() == [0, 0, 0, 0]
    await load(tight, one)
    assert all(size > 0 for size in used())
    assert sum(used()) == tight.bench.memory_bytes()
    await tight.bench.supervisor.unload("assistant")
    assert used() == [0, 0, 0, 0]


async def test_loads_are_timed_and_crashes_counted(tight: Scraped, one: Loadable) -> None:
    await load(tight, one)
    found = tight.look()
    assert found["sprat_model_load_seconds_count", ASSISTANT] == 1
    assert found["sprat_model_load_seconds_sum", ASSISTANT] > 0
    assert ("sprat_worker_crashes_total", ASSISTANT) not in found
    with pytest.raises(WorkerCrashedError):
        await tight.ask("crash")
    await until(lambda: tight.look()["sprat_model_load_seconds_count", ASSISTANT] == 2)
    assert tight.look()["sprat_worker_crashes_total", ASSISTANT] == 1


async def test_files_that_are_not_what_was_signed_are_counted(
    tight: Scraped, one: Loadable
) -> None:
    assert tight.look()["sprat_verify_failures_total", ("stage", "load")] == 0
    wrong = replace(one, files=tuple(replace(file, sha256="0" * 64) for file in one.files))
    with pytest.raises(ExecutionError):
        await load(tight, wrong)
    found = tight.look()
    assert found["sprat_verify_failures_total", ("stage", "load")] == 1
    assert found["sprat_verify_failures_total", ("stage", "download")] == 0


async def test_who_waits_is_told_and_who_is_turned_away_counted(
    tight: Scraped, one: Loadable
) -> None:
    await load(tight, one)
    slots = int(tight.look()["sprat_model_slots", ASSISTANT])
    held = [asyncio.create_task(tight.ask("hold")) for _ in range(slots)]
    await until(lambda: tight.look()["sprat_model_slots_busy", ASSISTANT] == slots)
    assert tight.look()["sprat_queued_prompt_tokens", ASSISTANT] == 0
    waiting = asyncio.create_task(tight.ask("x" * 400))
    await until(lambda: tight.look()["sprat_requests_queued", ASSISTANT] == 1)
    assert tight.look()["sprat_queued_prompt_tokens", ASSISTANT] == 100
    with pytest.raises(QueueFullError):
        await tight.ask("one too many")
    assert tight.look()["sprat_requests_rejected_total", ("reason", "queue_full")] == 1
    assert tight.look()["sprat_requests_running", ASSISTANT] == slots
    tight.bench.control(scripted_worker.GO_ON)
    await asyncio.gather(*held, waiting)
    assert tight.look()["sprat_queued_prompt_tokens", ASSISTANT] == 0
    assert tight.look()["sprat_model_slots_busy", ASSISTANT] == 0


async def test_looking_neither_loads_nor_changes_who_was_used_last(
    tight: Scraped, one: Loadable, two: Loadable
) -> None:
    await load(tight, one, replace(two, alias="other"), replace(two, alias="third"))
    await tight.ask("hello", "other")
    await tight.ask("hello", "assistant")
    pids = tight.bench.pids()
    for _ in range(20):  # were it a use, `other` would be the one that was used last
        tight.look()
    assert tight.bench.pids() == pids
    await tight.ask("hello", "third")
    assert loaded(tight.look(), ASSISTANT, "1.0.0") == 1
    assert loaded(tight.look(), OTHER, "2.0.0") == 0


async def test_what_the_device_knows_is_told(tight: Scraped) -> None:
    found = tight.look()
    assert found["sprat_sync_age_seconds",] == 1.5
    assert found["sprat_outbox_records", ("kind", "audit")] == 2
    assert found["sprat_outbox_bytes", ("kind", "audit")] == 300
    assert found["sprat_thermal_throttle_ratio",] == 0.25


def test_a_ratio_that_the_device_does_not_tell_is_left_out() -> None:
    text = render((), Recorder(), DeviceFigures(1, 1)).decode()
    assert ("sprat_thermal_throttle_ratio",) not in samples(text)


async def test_an_engines_own_figures_are_told(tmp_path: Path, model_files: list[Path]) -> None:
    supervisor = Supervisor(
        PLENTY,
        tmp_path / "run",
        lambda _tag, _subject, _details: None,
        crashes=CountedCrashes(),
        threads=1,
        limits=QUICK,
    )

    def look() -> Samples:
        return samples(render(supervisor.statuses(), Recorder(), None).decode())

    def tokens(kind: str) -> float:
        return look()["sprat_engine_tokens_total", ASSISTANT, ("type", kind)]

    await supervisor.load_committed(models.loadable(model_files))
    assert look()["sprat_engine_steps_total", ASSISTANT] == 0
    request = structs.replace(say("hello"), max_tokens=16)
    for _ in range(2):  # the second shares the first one's prefix
        async with supervisor.answering("assistant", request) as answer:
            assert [piece async for piece in answer]
    await until(lambda: tokens("decode") >= 30)
    assert look()["sprat_engine_steps_total", ASSISTANT] > 0
    assert look()["sprat_engine_seconds_total", ASSISTANT, ("part", "decode")] > 0
    assert tokens("prefill") > 0
    assert tokens("cached") > 0
    assert tokens("drafted") >= tokens("accepted") >= 0
    assert tokens("restored") == 0
    assert look()["sprat_engine_spilled_bytes_total", ASSISTANT] == 0
    await supervisor.unload("assistant")
    assert ("sprat_engine_steps_total", ASSISTANT) not in look()
    await supervisor.close()
