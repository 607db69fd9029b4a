"""T46: a release that crashes at its first token gives way to the one before, and is audited.

An execution, an alias and its real workers, over the signed repositories and the agent's own state.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from simulators import crashing_worker, models
from simulators.device import PROFILE
from simulators.models import TEMPLATE, Shape
from simulators.sealed import journal_of
from simulators.signed import Release, assigned, release
from simulators.site import is_settled
from simulators.trusting import HARDWARE, Clockwork, judge, trusting
from simulators.tuf_world import TufWorld
from simulators.waiting import until
from sprat_agent.audit.journal import EventWriter
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.partial import Blob
from sprat_agent.registry.store import Store
from sprat_agent.registry.trust import Past
from sprat_agent.runtime.faults import AnswerError
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Conversation, Message, Request, Sampling
from sprat_agent.state import State
from sprat_agent.sync.apply import Effects
from sprat_agent.sync.crashes import CrashRows
from sprat_agent.sync.executor import Executor
from sprat_agent.sync.fitting import Fitting
from sprat_agent.sync.freshness import Time
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.retreat import Retreat
from sprat_proto import fit, gguf
from sprat_proto.assignment import AssignedModel
from sprat_proto.fit import Candidate

BACK_S = 5.0  # of T46, on a machine with nothing else to do
MACHINE_FACTOR = 4  # how much longer it may take on one that runs a whole test suite
CRASHED = "agent:model:crashed"
LONG = "x" * crashing_worker.LONG_TOKENS


class Shelf:
    """A fetcher next to which all blobs lie, and its own download."""

    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self._blobs = blobs

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Shelf]:
        yield self

    async def fetch(self, blob: Blob, path: Path) -> None:
        path.write_bytes(self._blobs[blob.sha256])  # noqa: ASYNC240 - a few kilobytes


@dataclass
class Device:
    """A device with all that takes part in a rollout, but the link."""

    folder: Path
    budget_bytes: int
    events: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    def __post_init__(self) -> None:
        clock = Clockwork()
        self.world, self.state = TufWorld(), State(self.folder)
        self.journal, outbox = journal_of(self.state, clock), Outbox(self.state)
        self.ledger = Ledger(self.state, self.journal, outbox, clock)
        self.trust = trusting(self.world, self.state, self.folder, clock=clock)
        self.writer = EventWriter(self.state, self.journal, clock)
        crashes = CrashRows(self.state)
        self.supervisor = Supervisor(
            self.budget_bytes,
            self.folder / "run",
            self._note,
            crashes=crashes,
            threads=1,
            command=crashing_worker.command(),
        )
        self.blobs: dict[str, bytes] = {}
        registry = LocalRegistry(
            Store(self.folder),
            Shelf(self.blobs),
            judge(self.trust, self._past),
            self.trust.image_anchor,
            HARDWARE,
        )
        self.retreat = Retreat(self.ledger, registry, self.supervisor, crashes)
        self.supervisor.on_quarantine = self.retreat.wake
        effects = Effects(
            registry,
            self.supervisor,
            self.ledger,
            fitting=Fitting(lambda: PROFILE, registry, self.ledger, self.supervisor),
            crashes=crashes,
            now=self.trust.director.now,
        )
        self.executor = Executor(
            self.ledger,
            outbox,
            effects,
            self.supervisor,
            time=lambda: Time(self.trust.director.now(), None),
            uniform=lambda low, _high: low,
            on_transition=lambda _id, _phase, _moment: None,
        )

    async def roll_out(self, version: int, one: Release) -> str:
        """Have a release assigned; return how its execution ended."""
        self.world.image.publish(one.manifest)
        self.blobs |= one.blobs
        wanted = one.wanted(f"e{version}")
        plan = self.trust.director.check(self.world.plan("gw-1", version, [wanted]))
        with self.state.transaction() as connection:
            self.trust.director.keep(connection, plan)
            self.ledger.keep_assignment(connection, assigned(version, [wanted]), plan.expires)
        self.executor.wake()
        await until(lambda: is_settled(self.ledger), timeout_s=60)
        return str(self.ledger.executions()[-1].phase)

    async def ask(self, text: str = "Hello") -> str:
        """Return the release that answers."""
        prompt = Conversation((Message("user", text),))
        request = Request(prompt, Sampling(temperature=0), max_tokens=4)
        async with self.supervisor.answering("assistant", request) as answer:
            async for _ in answer:
                pass
            return answer.loadable.release

    async def answers(self, condition: Callable[[], object]) -> list[tuple[float, str]]:
        """Ask again and again until the condition holds; return when which release answered."""
        found: list[tuple[float, str]] = []
        while not condition():
            with suppress(AnswerError):
                one = await self.ask()
                found.append((monotonic(), one))
            await asyncio.sleep(0.01)
        return found

    async def insist(self, text: str) -> str:
        """Ask until something answers; return which release."""
        while True:
            with suppress(AnswerError):
                return await self.ask(text)
            await asyncio.sleep(0.01)

    def answering(self) -> list[str]:
        """Return the release that is committed and answers."""
        return [one.loadable.release for one in self.supervisor.running()]

    def crashed_at(self) -> float:
        """Return when the first crash was noted."""
        return next(at for at, tag in self.events if tag == CRASHED)

    def records(self, tag: str) -> list[dict[str, Any]]:
        """Return the audit records of a tag, whatever is noted being written."""
        self.writer.flush()
        records = [json.loads(one.body) for one in self.journal.batch(10_000, 1 << 24)]
        return [one for one in records if one["tag"] == tag]

    def _note(self, tag: str, subject: str, details: Mapping[str, object]) -> None:
        self.events.append((monotonic(), tag))
        self.writer.note(tag, subject, details)

    def _past(self, wanted: AssignedModel) -> Past:
        floor = self.ledger.counter_floor(f"{wanted.publisher}/{wanted.model}")
        return Past(floor, self.ledger.was_proved(wanted.digest))


@dataclass
class Releases:
    """One that is good, one that crashes always, and one that crashes after a long prompt."""

    good: Release
    crashing: Release
    crashing_late: Release
    memory_bytes: int  # that each takes


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    (path,) = models.write_model(tmp_path_factory.mktemp("model") / "model.gguf", Shape())
    data, facts = path.read_bytes(), gguf.facts(path, "f32")
    made = [
        release(f"{number}.0.0", [data], counter=number, facts=facts, template=mark + TEMPLATE)
        for number, mark in enumerate(("", crashing_worker.ALWAYS, crashing_worker.IF_LONG), 1)
    ]
    one = Candidate("q4_0", "", "", (), 0, facts)
    return Releases(made[0], made[1], made[2], fit.need(one, 256).memory)


@asynccontextmanager
async def running(folder: Path, budget_bytes: int) -> AsyncGenerator[Device]:
    device = Device(folder, budget_bytes)
    tasks = [asyncio.create_task(one) for one in (device.executor.run(), device.retreat.run())]
    try:
        yield device
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await device.supervisor.close()
        device.state.close()


def check_that_it_is_back(device: Device, answered: list[tuple[float, str]]) -> None:
    """Hold how long it took, from the first crash on, until the former release answered."""
    crashed_at = device.crashed_at()
    took_s = min(at for at, _ in answered if at > crashed_at) - crashed_at
    print(f"T46: the former release answered {took_s:.2f} s after the crash")  # noqa: T201
    assert took_s < BACK_S * MACHINE_FACTOR
    assert {release for _, release in answered} == {"1.0.0"}
    assert device.ledger.committed()["assistant"].wanted.release == "1.0.0"


@pytest.mark.parametrize("fits_twice", [True, False], ids=["beside it", "in its place"])
async def test_t46_a_candidate_that_crashes_at_its_first_token_gives_way_to_the_former_model(
    tmp_path: Path, releases: Releases, *, fits_twice: bool
) -> None:
    budget_bytes = releases.memory_bytes * (3 if fits_twice else 1) + 1
    async with running(tmp_path, budget_bytes) as device:
        assert await device.roll_out(1, releases.good) == "SUCCEEDED"
        assert await device.ask() == "1.0.0"
        rollout = asyncio.create_task(device.roll_out(2, releases.crashing))
        answered = await device.answers(rollout.done)
        assert await rollout == "ROLLED_BACK"
        answered.append((monotonic(), await device.ask()))
        check_that_it_is_back(device, answered)
        (record,) = device.records(CRASHED)
        assert record["subject"] == "talk@2.0.0+q4_0"
        assert record["detail"]["digest"] == releases.crashing.digest
        assert "SIGSEGV" in record["detail"]["reason"]


async def test_t46_a_committed_release_that_crashes_at_first_tokens_gives_way_to_the_former_one(
    tmp_path: Path, releases: Releases
) -> None:
    async with running(tmp_path, releases.memory_bytes * 3) as device:
        assert await device.roll_out(1, releases.good) == "SUCCEEDED"
        assert await device.roll_out(2, releases.crashing_late) == "SUCCEEDED"
        await until(lambda: device.answering() == ["3.0.0"])  # which follows the commit
        async with asyncio.timeout(BACK_S * MACHINE_FACTOR):
            release = await device.insist(LONG)
        check_that_it_is_back(device, [(monotonic(), release)])
        assert len(device.records(CRASHED)) == 3
        (returned,) = device.records("agent:alias:returned")
        assert returned["detail"]["to"] == releases.good.digest
