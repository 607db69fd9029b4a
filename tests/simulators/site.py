"""A device without a network, and the world that makes its sticks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from sprat_agent.bundle.load import Loaded
from sprat_agent.bundle.receive import Device, receive
from sprat_agent.bundle.refusal import BundleError
from sprat_agent.registry.local import Download, LocalRegistry
from sprat_agent.registry.store import Store
from sprat_agent.registry.trust import Past
from sprat_agent.state import State
from sprat_agent.sync import phases
from sprat_agent.sync.apply import Effects
from sprat_agent.sync.crashes import CrashRows
from sprat_agent.sync.executor import Executor
from sprat_agent.sync.fitting import Fitting
from sprat_agent.sync.freshness import Time
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.ports import RetryLaterError
from sprat_controller.bundle.write import write
from sprat_proto import bundle, canonical
from sprat_proto.assignment import AssignedModel
from sprat_proto.v1 import link_pb2

from simulators.device import PROFILE, Disk, MemoryWorkers
from simulators.sealed import journal_of, keys_in
from simulators.signed import Release, release
from simulators.trusting import HARDWARE, Clockwork, WorldRemote, identity, trusting
from simulators.trusting import judge as make_judge
from simulators.tuf_world import TufWorld
from simulators.waiting import until


class NoNetwork:
    """A fetcher that must not be needed: all blobs came with the bundle."""

    def opened(self) -> AbstractAsyncContextManager[Download]:
        raise RetryLaterError("the network is away")


def is_settled(ledger: Ledger) -> bool:
    """Tell whether all that is assigned was run to its end."""
    assignment, executions = ledger.assignment(), ledger.executions()
    known = {one.execution_id for one in executions}
    return (
        assignment is not None
        and all(one.execution_id in known for one in assignment.models)
        and all(phases.is_final(one.phase) for one in executions)
    )


class Site:
    """A device without a network, and the world that makes its sticks."""

    def __init__(self, folder: Path, weights: bytes) -> None:
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir()
        self.world, self.clock = TufWorld(), Clockwork()
        self.one = self.publish(release(data=[weights]))
        self.two = self.publish(release("2.0.0", [weights + bytes(100)], counter=2))

    def publish(self, made: Release) -> Release:
        self.world.image.publish(made.manifest)
        self.world.image.blobs.update(made.blobs)
        return made

    def plan(self, version: int, made: Release | None = None) -> link_pb2.Assignment:
        wanted = (made or self.one).wanted(f"e{version}")
        return self.world.plan("gw-1", version, [wanted])

    def stick(
        self,
        plan: link_pb2.Assignment,
        name: str = "one.sprat",
        *,
        device: str = "gw-1",
        changes: Mapping[str, bytes] | None = None,
        blobs: Mapping[str, bytes] | None = None,
    ) -> Path:
        """Make a bundle as the controller does; `changes` replace members and blobs."""
        said = {
            bundle.plan_name(device, "targets"): plan.targets,
            bundle.plan_name(device, "snapshot"): plan.snapshot,
            bundle.plan_name(device, "timestamp"): plan.timestamp,
        }
        header = bundle.Header(schema=bundle.SCHEMA, made="now", devices=[device])
        return self._written(header, {**said, **(changes or {})}, name, blobs)

    def group_stick(
        self, envelope: bytes, name: str = "group.sprat", *, group: str = "store"
    ) -> Path:
        """Make a bundle for a group as the controller does."""
        header = bundle.Header(schema=bundle.SCHEMA, made="now", devices=[], group=group)
        return self._written(header, {bundle.OFFLINE: envelope}, name, None)

    def _written(
        self,
        header: bundle.Header,
        said: Mapping[str, bytes],
        name: str,
        blobs: Mapping[str, bytes] | None,
    ) -> Path:
        members = {bundle.HEADER: canonical.encode(header)}
        roots = self.world.director.roots
        members |= {bundle.director_root_name(n): root for n, root in enumerate(roots, 1)}
        image = {bundle.image_name(n): data for n, data in self.world.files().items()}
        members |= {**said, **image, **said}
        stored = dict(self.world.image.blobs) if blobs is None else dict(blobs)
        members = dict(sorted(members.items(), key=lambda one: bundle.rank(one[0]) or (-1, 0)))
        path = self.folder / name
        sizes = [(sha256, len(data)) for sha256, data in stored.items()]
        write(path, list(members.items()), sizes, lambda sha256, _: [stored[sha256]])
        return path

    async def load(self, path: Path) -> Loaded:
        who = identity(self.world, self.folder)
        if not who.folder.exists():
            keys_in(who.folder)
        device = Device(self.state, who, HARDWARE, self.clock, self.clock.time)
        return await receive(path, device)

    async def refused(self, path: Path) -> str:
        before = self.version()
        with pytest.raises(BundleError) as caught:
            await self.load(path)
        assert self.version() == before
        return str(caught.value)

    async def run(self) -> dict[str, str]:
        """Run the agent until all is settled, with no network; return which digests answer."""
        state = State(self.state)
        try:
            journal, outbox = journal_of(state, self.clock), Outbox(state)
            ledger = Ledger(state, journal, outbox, self.clock)
            away = WorldRemote(self.world, is_away=True)
            trust = trusting(self.world, state, self.folder, away, self.clock)

            def past(wanted: AssignedModel) -> Past:
                floor = ledger.counter_floor(f"{wanted.publisher}/{wanted.model}")
                return Past(floor, ledger.was_proved(wanted.digest))

            judge = make_judge(trust, past)
            registry = LocalRegistry(
                Store(self.state), NoNetwork(), judge, trust.image_anchor, HARDWARE
            )
            workers = MemoryWorkers(Disk())
            for one in ledger.committed().values():
                installed = await registry.open_installed(one.wanted, one.context)
                await workers.load_committed(installed.loadable)
            effects = Effects(
                registry,
                workers,
                ledger,
                fitting=Fitting(lambda: PROFILE, registry, ledger, workers),
                crashes=CrashRows(state),
                now=trust.director.now,
            )
            executor = Executor(
                ledger,
                outbox,
                effects,
                workers,
                time=lambda: Time(trust.director.now(), None),
                uniform=lambda low, _high: low,
                on_transition=lambda _id, _phase, _moment: None,
            )
            running = asyncio.create_task(executor.run())
            await until(lambda: is_settled(ledger) and not workers.candidates)
            running.cancel()
            await asyncio.wait({running})
            return {alias: one.digest for alias, one in workers.committed.items()}
        finally:
            state.close()

    def version(self) -> int:
        state = State(self.state)
        try:
            journal = journal_of(state, self.clock)
            return Ledger(state, journal, Outbox(state), self.clock).assignment_version()
        finally:
            state.close()

    def installed(self) -> frozenset[str]:
        return Store(self.state).versions()
