"""What must hold while models leave and requests begin; workers die when they are told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest
from simulators.waiting import until
from simulators.workbench import QUICK, say
from sprat_agent.runtime.hosted import HostedModel, Workshop
from sprat_agent.runtime.memory import Memory
from sprat_agent.runtime.process import Ask, Order, WorkerProcess
from sprat_agent.runtime.queue import Admission
from sprat_agent.runtime.served import ServedAlias
from sprat_agent.runtime.spare import Spare
from sprat_agent.sync.ports import Loadable
from sprat_proto.fit import MIB

TWO_FIT = 150 * MIB  # a tiny model takes 66 MiB
WORKSHOP = Workshop((), Path(), 1, QUICK, lambda _: Spare())


class HeldWorker:
    """A worker of two slots that answers for ever, and is gone when `gone` is called."""

    def __init__(self) -> None:
        self.died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.idle = asyncio.Event()
        self.idle.set()
        self.slots = 2
        self.asked = 0

    @property
    def is_ready(self) -> bool:
        return not self.died.done()

    @property
    def free(self) -> int:
        return self.slots - self.asked

    def ask(self, order: Order) -> Ask:
        del order
        self.asked += 1
        self.idle.clear()
        return Ask(self.asked, lambda _: None)

    def gone(self) -> None:
        self.died.set_result("told to")


class World:
    """Three models of which two fit: `a` and `b` are in memory, `c` is cold."""

    def __init__(self, one: Loadable) -> None:
        self.aliases: dict[str, ServedAlias] = {}
        self.memory = Memory(TWO_FIT, self.aliases, load=self._load, end=self._end)
        self.ended: list[str] = []  # begun to
        self.loaded: list[str] = []
        self.asking: list[asyncio.Task[Admission]] = []
        self.workers = {name: HeldWorker() for name in "ab"}
        self._names: dict[HostedModel, str] = {}
        for name in "abc":
            alias = self.aliases[name] = ServedAlias(name, QUICK, self.memory.poke)
            hosted = alias.committed = HostedModel(one, WORKSHOP, alias.dispatch)
            self._names[hosted] = name
            hosted.is_cold = name not in self.workers
            if name in self.workers:
                hosted.worker = cast("WorkerProcess", self.workers[name])

    def ask(self, name: str) -> asyncio.Task[Admission]:
        asked = self.aliases[name].admit(say("hello"), pinned=None)
        self.asking.append(asyncio.create_task(asked))
        return self.asking[-1]

    async def settle(self) -> None:
        """Let everything happen that is due."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for one in self.asking:
            one.cancel()
        await asyncio.wait(self.asking)

    def _load(self, alias: ServedAlias) -> None:
        assert alias.committed
        alias.committed.is_cold = False
        self.loaded.append(alias.name)

    async def _end(self, hosted: HostedModel) -> None:
        self.ended.append(self._names[hosted])
        assert hosted.worker
        await asyncio.shield(hosted.worker.died)
        hosted.worker = None


@pytest.fixture
def size(one: Loadable) -> int:
    return HostedModel(one, WORKSHOP, lambda: None).memory_bytes


async def test_nothing_else_is_decided_while_a_model_leaves(one: Loadable) -> None:
    world = World(one)
    world.ask("c")
    await until(lambda: world.ended == ["a"])
    for name in "abc":  # each changes what there is to decide
        world.ask(name)
        await world.settle()
    assert world.ended == ["a"]
    world.workers["a"].gone()
    await until(lambda: world.loaded == ["c"])
    await world.close()


async def test_the_memory_of_a_dying_worker_is_given_to_nobody_before_it_is_gone(
    one: Loadable, size: int
) -> None:
    world = World(one)
    world.ask("c")
    await until(lambda: world.ended == ["a"])
    assert world.memory.room() == TWO_FIT - 2 * size
    assert world.loaded == []
    world.workers["a"].gone()
    await until(lambda: world.loaded == ["c"])
    assert world.memory.room() == TWO_FIT - 2 * size
    await world.close()


async def test_of_busy_models_the_one_whose_requests_began_first_is_drained(one: Loadable) -> None:
    world = World(one)  # where `a` was there first
    for name in "ba":
        world.ask(name)
        await world.settle()
    world.ask("c")
    await world.settle()
    to_a, to_b = world.ask("a"), world.ask("b")
    await world.settle()
    assert (to_a.done(), to_b.done()) == (True, False)
    await world.close()
