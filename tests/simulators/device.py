"""A device whose power may be cut at any transition: real ledger and executor, a disk and workers
in memory. What is on the disk survives `cut_power`; what is in the workers does not.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sprat_agent.audit.journal import DEFAULT_ROOM, Room
from sprat_agent.state import State
from sprat_agent.sync import phases
from sprat_agent.sync.apply import Effects
from sprat_agent.sync.crashes import CrashRows
from sprat_agent.sync.executor import Executor
from sprat_agent.sync.fitting import Fitting
from sprat_agent.sync.freshness import Time
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.phases import Phase
from sprat_agent.sync.ports import (
    Admit,
    ExecutionError,
    Fetched,
    Installed,
    Loadable,
    ModelMetrics,
    Probed,
    Running,
    SeenRates,
    Serving,
    admit_all,
)
from sprat_agent.sync.room import Recording
from sprat_proto.assignment import AssignedModel, Assignment
from sprat_proto.fit import Profile
from sprat_proto.manifest import Activation, Manifest
from sprat_proto.probes import ProbeResult, Traffic
from sprat_proto.states import ModelState, ReasonCode

from simulators.sealed import journal_of
from simulators.signed import Release
from simulators.waiting import until

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PROFILE = Profile(
    arch="x86_64",
    cores=4,
    cpu_features=(),
    memory_bytes=1 << 40,
    memory_budget_bytes=1 << 40,
    disk_free_bytes=1 << 40,
    accelerators=(),
    os="linux",
    simulated=True,
    runtimes=("llama.cpp",),
)


class PowerCutError(BaseException):
    """The process is gone: nothing may catch this."""


@dataclass
class Disk:
    """What the registry keeps, and what is wrong with the world."""

    releases: dict[str, Release] = field(default_factory=dict[str, Release])
    fetched: set[str] = field(default_factory=set[str])
    installed: set[str] = field(default_factory=set[str])
    # By (method, digest): raised once each, in order.
    faults: dict[tuple[str, str], list[Exception]] = field(
        default_factory=dict[tuple[str, str], list[Exception]]
    )
    # By (method, digest): raised always.
    defects: dict[tuple[str, str], Exception] = field(
        default_factory=dict[tuple[str, str], Exception]
    )
    # (method, digest) whose call waits for ever.
    stuck: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    async def meet(self, method: str, digest: str) -> None:
        """Let happen what is wrong with this call."""
        if (method, digest) in self.stuck:
            await asyncio.Event().wait()
        if (method, digest) in self.defects:
            raise self.defects[method, digest]
        waiting = self.faults.get((method, digest))
        if waiting:
            raise waiting.pop(0)


class DiskRegistry:
    """A `Registry` on a simulated disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def download(self, wanted: AssignedModel, admit: Admit = admit_all) -> None:
        manifest = self._disk.releases[wanted.digest].manifest
        missing = 0 if wanted.digest in self._disk.fetched else manifest.disk_needed
        await admit(Fetched(manifest, missing))
        await self._disk.meet("download", wanted.digest)
        self._disk.fetched.add(wanted.digest)

    async def fetched(self, wanted: AssignedModel) -> Fetched:
        self._require(wanted, self._disk.fetched)
        return Fetched(self._disk.releases[wanted.digest].manifest, 0)

    async def verify(self, wanted: AssignedModel) -> Manifest:
        await self._disk.meet("verify", wanted.digest)
        self._require(wanted, self._disk.fetched)
        return self._disk.releases[wanted.digest].manifest

    async def install(self, wanted: AssignedModel) -> None:
        await self._disk.meet("install", wanted.digest)
        self._require(wanted, self._disk.fetched)
        self._disk.installed.add(wanted.digest)

    async def open_installed(self, wanted: AssignedModel, context: int) -> Installed:
        await self._disk.meet("open", wanted.digest)
        self._require(wanted, self._disk.installed)
        manifest = self._disk.releases[wanted.digest].manifest
        loadable = Loadable(
            alias=wanted.alias,
            model=wanted.model,
            release=wanted.release,
            variant=wanted.variant,
            digest=wanted.digest,
            signer="publisher",
            files=(),
            facts=manifest.facts,
            context=context,
            chat_template=manifest.chat_template,
            serving=Serving.by(wanted.terms),
        )
        return Installed(manifest, loadable)

    async def superfluous(self, keep: frozenset[str]) -> frozenset[str]:
        return frozenset(self._disk.installed - keep)

    async def collect_garbage(self, keep: frozenset[str]) -> int:
        self._disk.fetched &= keep
        self._disk.installed &= keep
        return 0

    def _require(self, wanted: AssignedModel, there: set[str]) -> None:
        if wanted.digest not in there:
            raise ExecutionError(ReasonCode.BLOB_NOT_FOUND, f"{wanted.digest} is not there")


class MemoryWorkers:
    """`Workers` without processes; `answers` is what an application would see."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.committed: dict[str, Loadable] = {}
        self.candidates: dict[str, Loadable] = {}
        self.shares: dict[str, int] = {}
        self.probes: list[str] = []
        self.asked: list[tuple[Activation, int]] = []  # and the rate before
        self.rates: dict[str, SeenRates] = {}
        self.results: dict[str, ProbeResult] = {}
        self.requests: dict[str, Traffic] = {}
        self._failures: dict[str, asyncio.Future[ExecutionError]] = {}

    async def load_committed(self, loadable: Loadable) -> None:
        await self._disk.meet("load_committed", loadable.digest)
        self.committed[loadable.alias] = loadable

    async def load_candidate(self, loadable: Loadable) -> None:
        await self._disk.meet("load_candidate", loadable.digest)
        if self.candidates.get(loadable.alias) != loadable:
            self._failures[loadable.alias] = asyncio.get_running_loop().create_future()
        self.candidates[loadable.alias] = loadable

    async def probe(self, alias: str, activation: Activation, before_milli_tps: int) -> Probed:
        candidate = self.candidates[alias]
        self.asked.append((activation, before_milli_tps))
        self.probes.append(candidate.digest)
        result = self.results.get(candidate.digest, ProbeResult(score_permille=1000))
        try:
            await self._disk.meet("probe", candidate.digest)
        except ExecutionError as error:
            return Probed(result, error)
        return Probed(result)

    def share_traffic(self, alias: str, percent: int) -> None:
        self.shares[alias] = percent

    async def candidate_failure(self, alias: str) -> ExecutionError:
        return await asyncio.shield(self._failures[alias])

    async def promote(self, alias: str) -> None:
        if alias not in self.candidates:
            raise ExecutionError(ReasonCode.WORKER_CRASHED, "it died")
        self.committed[alias] = self.candidates.pop(alias)

    async def drop_candidate(self, alias: str) -> None:
        self.candidates.pop(alias, None)

    async def unload(self, alias: str) -> None:
        self.candidates.pop(alias, None)
        self.committed.pop(alias, None)

    def running(self) -> tuple[Running, ...]:
        return tuple(Running(self.committed[one], ModelState.LOADED) for one in self.committed)

    def seen(self, digest: str) -> SeenRates:
        return self.rates.get(digest, SeenRates())

    def metrics(self) -> tuple[ModelMetrics, ...]:
        both = (self.committed, self.candidates)
        return tuple(
            ModelMetrics(one.alias, one.digest, 1) for which in both for one in which.values()
        )

    def traffic(self, alias: str) -> Traffic:
        candidate = self.candidates.get(alias)
        return self.requests.get(candidate.digest, Traffic()) if candidate else Traffic()

    def crash(self, alias: str) -> None:
        """End the candidate's worker as a signal would."""
        del self.candidates[alias]
        self._failures[alias].set_result(ExecutionError(ReasonCode.WORKER_CRASHED, "signal 9"))


class Device:
    """Open from construction to `close` or `cut_power`; make another one on the same folder."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        on_transition: Callable[[str, str, str], None] | None = None,
        *,
        watch_slice_s: int = 60,
        now: datetime = NOW,
        fetched: Callable[[], int] | None = None,
        room: Room = DEFAULT_ROOM,
    ) -> None:
        self.disk = disk
        self.folder = folder
        self.now = now  # the time by which the plan's expiry and windows are judged
        self.is_time_known = True
        self.alarms: list[tuple[float, asyncio.Event]] = []  # in seconds from when it was set
        self._is_set = asyncio.Event()
        self.profile = PROFILE  # its hardware, as it is now
        self.state = State(folder, room.reserve)
        self.journal = journal_of(self.state, lambda: NOW, room=room)
        self.outbox = Outbox(self.state)
        self.ledger = Ledger(self.state, self.journal, self.outbox, lambda: NOW)
        self.workers = MemoryWorkers(disk)
        self.crashes = CrashRows(self.state)
        registry = DiskRegistry(disk)
        self.effects = Effects(
            registry,
            self.workers,
            self.ledger,
            fitting=Fitting(lambda: self.profile, registry, self.ledger, self.workers),
            crashes=self.crashes,
            now=lambda: self.now,
            watch_slice_s=watch_slice_s,
            recording=Recording(self.journal, self.ledger),
        )
        self.moments: list[tuple[str, str, str]] = []
        self.on_transition = on_transition
        self.executor = Executor(
            self.ledger,
            self.outbox,
            self.effects,
            self.workers,
            time=lambda: Time(self.now, self.now if self.is_time_known else None),
            uniform=lambda low, _high: low,
            on_transition=self._transition,
            sleep=self._sleep,
            fetched=fetched,
        )

    async def _sleep(self, seconds: float) -> None:
        alarm = seconds, asyncio.Event()
        self.alarms.append(alarm)
        self._is_set.set()
        try:
            await alarm[1].wait()
        finally:
            if alarm in self.alarms:
                self.alarms.remove(alarm)

    async def sleep_on(self) -> float:
        """Let time pass until the executor's first alarm; return how many seconds that took."""
        while not self.alarms:
            self._is_set.clear()
            await self._is_set.wait()
        seconds, alarm = min(self.alarms, key=lambda one: one[0])
        self.alarms.remove((seconds, alarm))
        self.now += timedelta(seconds=seconds)
        alarm.set()
        return seconds

    def _transition(self, execution_id: str, phase: str, moment: str) -> None:
        self.moments.append((execution_id, phase, moment))
        if self.on_transition:
            self.on_transition(execution_id, phase, moment)

    async def boot(self) -> None:
        """Settle what was begun, and load what is committed, before anything else."""
        self.ledger.intents.settle(
            {
                "alias": self.ledger.stands_for,
                "version": lambda one: one if one in self.disk.installed else "",
            }
        )
        for committed in self.ledger.committed().values():
            installed = await DiskRegistry(self.disk).open_installed(
                committed.wanted, committed.context
            )
            await self.workers.load_committed(installed.loadable)

    async def live(self) -> None:
        """Run until there is nothing to do, or the power is cut.

        Raises:
            PowerCutError: `on_transition` raised it.
        """
        await self.run_until(self.is_settled)

    async def live_on(self, condition: Callable[[], object]) -> None:
        """Boot, and run executions until the condition holds; time passes whenever they sleep."""

        async def pass_on() -> None:
            while True:
                await self.sleep_on()

        running = asyncio.create_task(self.run_until(condition))
        passing = asyncio.create_task(pass_on())
        try:
            await asyncio.wait({running, passing}, return_when=asyncio.FIRST_COMPLETED)
            running.result()
        finally:
            for task in (running, passing):
                task.cancel()
            await asyncio.wait({running, passing})

    async def run_until(self, condition: Callable[[], object]) -> None:
        """Boot, and run executions until the condition holds."""
        await self.boot()
        running = asyncio.create_task(self.executor.run())
        reaching = asyncio.create_task(until(condition))
        try:
            await asyncio.wait({running, reaching}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            await reaching
        finally:
            for task in (running, reaching):
                task.cancel()
            await asyncio.wait({running, reaching})

    def is_settled(self) -> bool:
        """All that is assigned was run to its end."""
        assignment = self.ledger.assignment()
        known = {one.execution_id: one.phase for one in self.ledger.executions()}
        assigned = assignment.models if assignment else []
        aliases = {one.alias for one in assigned}
        return (
            all(one.execution_id in known for one in assigned)
            and all(phases.is_final(phase) for phase in known.values())
            and set(self.ledger.committed()) <= aliases
            and not self.workers.candidates
        )

    def assign(self, assignment: Assignment, expires: datetime = NOW + timedelta(days=7)) -> None:
        """Accept an assignment, its signature aside."""
        with self.state.transaction() as connection:
            self.ledger.keep_assignment(connection, assignment, expires)
        self.executor.wake()
        self.executor.hurry()

    def close(self) -> None:
        """End the process; the disk stays."""
        self.state.close()

    cut_power = close

    # What can be seen

    def answers(self, alias: str = "assistant") -> str:
        """Return the digest that answers an application."""
        one = self.workers.committed.get(alias)
        return one.digest if one else ""

    def phase(self, execution_id: str) -> Phase:
        """Return where an execution is."""
        return next(
            one.phase for one in self.ledger.executions() if one.execution_id == execution_id
        )

    def phase_or_none(self, execution_id: str) -> Phase | None:
        """Return where an execution is, or None while it is not known."""
        found = (one.phase for one in self.ledger.executions() if one.execution_id == execution_id)
        return next(found, None)

    def audit(self) -> list[dict[str, Any]]:
        """Return all audit records, oldest first."""
        return [json.loads(one.body) for one in self.journal.batch(100_000, 1 << 30)]

    def entered(self, execution_id: str) -> Counter[str]:
        """Return how often the execution entered each phase."""
        return Counter(
            record["detail"]["phase"]
            for record in self._of(execution_id, "agent:execution:entered")
        )

    def left(self, execution_id: str) -> Counter[str]:
        """Return how often the execution completed each phase."""
        return Counter(
            record["detail"]["after"]
            for record in self._of(execution_id, "agent:execution:entered")
            if "after" in record["detail"]
        )

    def reason(self, execution_id: str) -> Mapping[str, str]:
        """Return why the execution did not succeed."""
        return self._of(execution_id, "agent:execution:entered")[-1]["detail"]["reason"]

    def _of(self, execution_id: str, tag: str) -> list[dict[str, Any]]:
        return [
            record
            for record in self.audit()
            if record["subject"] == f"execution/{execution_id}" and record["tag"] == tag
        ]
