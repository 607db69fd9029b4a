"""A real worker is killed, starved of memory and evicted: what applications see of it."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import time
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from bench import shapes
from simulators import cgroups
from simulators.dialects import DIALECTS, OPENAI, Stream, stream
from simulators.resident import sampled
from simulators.served_models import COMMAND, LIMITS, Model, Order, Served, served
from sprat_agent.sync.ports import Loadable
from sprat_proto import fit
from sprat_proto.fit import MIB

# 54 M weights of two bytes: an answer of 900 tokens takes many seconds, a load about one.
SHAPE = shapes.Shape("faults", 12, 512, 1536, 8, 4, 64, 8_192)
CONTEXT = 1024
LONG = 900  # tokens
ALIAS = "assistant"
# Until the next answer there are a load, the first wait before a restart, and little else: the
# worker's death is an event, and one token takes a hundredth of a load. Another load is for noise.
FACTOR = 2
BACK_OFF_MS = LIMITS.restart_first_s * 1000
OUT_OF_MEMORY = re.compile("memory|bad_alloc", re.IGNORECASE)
ROUNDS = 2
PARENT = cgroups.parent()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.write(tmp_path_factory.mktemp("model"), "F16", SHAPE)


@pytest.fixture
def order(model_file: Path, tmp_path: Path) -> Order:
    return Order(str(tmp_path), [Model(ALIAS, str(model_file), CONTEXT)])


@pytest.fixture
def device(order: Order) -> Generator[Served]:
    with served(order) as made:
        yield made


@pytest.fixture
async def http(device: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(device) as client:
        yield client


def client_of(device: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=device.url, timeout=60)


async def ended_by_a_crash(one: Stream) -> str:
    """Read to the error that ends a stream; return its sentence."""
    await one.rest()
    assert (one.status, one.is_over) == (200, False)
    assert one.error is not None
    assert one.error["code"] == "worker_crashed"
    return one.error["message"]


async def answered_again(device: Served, http: httpx.AsyncClient, crashed: float) -> None:
    """See that the next request is answered about as soon as a worker can be there."""
    async with stream(http, OPENAI, ALIAS, "Again", 1) as again:
        await again.rest()
        assert again.is_over
    took_ms = (time.monotonic() - crashed) * 1000
    loads_ms = device.alias().loads_ms
    assert len(loads_ms) == 2
    assert took_ms <= BACK_OFF_MS + FACTOR * max(loads_ms)


async def test_a_killed_worker_ends_each_stream_with_an_error_and_the_next_is_answered(
    device: Served, http: httpx.AsyncClient
) -> None:
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(stream(http, dialect, ALIAS, "Go on", LONG))
            for dialect in DIALECTS.values()
        ]
        for one in streams:
            assert await one.piece()
        os.kill(device.worker_pid(), signal.SIGKILL)
        killed = time.monotonic()
        for one in streams:
            assert "was killed by SIGKILL" in await ended_by_a_crash(one)
        await answered_again(device, http, killed)


async def test_a_worker_that_gets_no_more_memory_says_so_and_the_next_is_answered(
    device: Served, http: httpx.AsyncClient
) -> None:
    async with stream(http, OPENAI, ALIAS, "Go on", LONG) as answer:
        assert await answer.piece()
        give_no_more_memory(device.worker_pid())
        async with stream(http, OPENAI, ALIAS, "z y " * 225_000, 1) as greedy:
            await greedy.rest()
            assert greedy.error is not None
            assert OUT_OF_MEMORY.search(greedy.error["message"])
        crashed = time.monotonic()
        assert OUT_OF_MEMORY.search(await ended_by_a_crash(answer))
        await answered_again(device, http, crashed)


def give_no_more_memory(pid: int) -> None:
    """Have a process no more address space than it has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))


@pytest.mark.skipif(
    PARENT is None or not PARENT.is_unified,
    reason="no cgroup (version 2) with a memory limit can be made",
)
async def test_of_a_cgroup_without_memory_the_kernel_kills_the_worker_and_not_the_agent(
    order: Order,
) -> None:
    assert PARENT is not None
    with cgroups.made(PARENT) as group:
        joining = ("sh", "-c", f'{group.joining}; exec "$@"', "sh")
        with served(order, command=(*joining, *COMMAND)) as device:
            async with (
                client_of(device) as http,
                stream(http, OPENAI, ALIAS, "Go on", LONG) as answer,
            ):
                assert await answer.piece()
                group.take_away(64 * MIB)
                crashed = time.monotonic()
                assert "as the kernel does when memory runs out" in await ended_by_a_crash(answer)
                assert group.kills() >= 1
                await answered_again(device, http, crashed)


async def test_two_models_of_which_one_fits_both_answer_within_the_budget(
    model_file: Path, tmp_path: Path
) -> None:
    both = [Model(name, str(model_file), CONTEXT) for name in ("first", "second")]
    budget = need_of(both[0].loadable())
    with served(Order(str(tmp_path), both, budget_bytes=budget)) as device:
        async with client_of(device) as http, asyncio.timeout(120):
            with sampled(device.pid) as seen:
                for _ in range(ROUNDS):
                    names = [one.alias for one in both] * 2
                    await asyncio.gather(*(answered(http, name) for name in names))
        conditions = {one["alias"]: one["state"] for one in device.status()["models"]}
        assert device.alias("first").crashes == device.alias("second").crashes == []
    assert seen.samples > 100
    assert budget / 2 < seen.most_bytes <= budget
    assert len(seen.pids) >= 2 * ROUNDS  # each round had both in memory, one after the other
    assert sorted(conditions.values()) == ["COLD", "READY"]


def need_of(one: Loadable) -> int:
    """Return what a model takes with one slot, by the rule of fit."""
    candidate = fit.Candidate(one.variant, one.digest, "", (), 0, one.facts)
    return fit.need(candidate, one.context).memory


async def answered(http: httpx.AsyncClient, name: str) -> None:
    async with stream(http, OPENAI, name, "Go on", 16) as answer:
        await answer.rest()
        assert answer.is_over, answer.error
