"""All models of this device: one worker process each, within one memory budget.

Implements `sync.ports.Workers` for executions, and what the local API asks (`models`). How a model
comes into memory is in `loading`, who else has to leave it in `memory`, and what goes on with its
worker from then on in `upkeep`. Runs in the agent's event loop; only files are read in threads.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Final

from sprat_proto.manifest import Activation
from sprat_proto.probes import Before, Traffic
from sprat_proto.states import ModelState, ReasonCode

from sprat_agent.profile.cpu import usable_cores
from sprat_agent.runtime import golden, prefixes
from sprat_agent.runtime.events import ModelEvents, OnEvent
from sprat_agent.runtime.hosted import HostedModel, Workshop
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.loading import Loading
from sprat_agent.runtime.memory import Memory
from sprat_agent.runtime.models import ServedModels
from sprat_agent.runtime.process import WORKER_COMMAND
from sprat_agent.runtime.quarantine import Crashes
from sprat_agent.runtime.served import Condition, ServedAlias
from sprat_agent.runtime.upkeep import Upkeep
from sprat_agent.sync.ports import ExecutionError, Loadable, ModelMetrics, Probed, Running


class Supervisor(ServedModels):
    """The engine worker processes of this device; see `sync.ports.Workers`."""

    def __init__(
        self,
        budget_bytes: int,
        run_dir: Path,
        on_event: OnEvent,
        *,
        crashes: Crashes,
        threads: int | None = None,
        limits: Limits | None = None,
        command: Sequence[str] = WORKER_COMMAND,
        prefix_dir: Path | None = None,
    ) -> None:
        """Supervise nothing yet.

        Args:
            budget_bytes: What all models may take together.
            run_dir: A folder of our own; what earlier workers left in it is removed.
            on_event: Called with tag, subject and details of what audit is to know.
            crashes: Where each release's crashes are counted.
            threads: For each engine; by default, the processors that this process may use.
            limits: Times, queue lengths and the size of files.
            command: What runs a worker.
            prefix_dir: Where workers keep prefixes of prompts, if anywhere.
        """
        run_dir = run_dir.resolve()  # workers run elsewhere
        run_dir.mkdir(parents=True, exist_ok=True)
        for left_over in run_dir.glob("worker-*"):
            shutil.rmtree(left_over)
        # Called with an alias whose committed model was put into quarantine.
        self.on_quarantine: Callable[[str], None] = _nothing
        self._limits = limits or Limits()
        self._crashes = crashes
        self._by_name: dict[str, ServedAlias] = {}
        events = ModelEvents(on_event)
        super().__init__(self._by_name)
        self._upkeep = Upkeep(events, crashes, self._limits, self._quarantined)
        self._memory = Memory(
            budget_bytes, self._by_name, load=self._upkeep.load_cold, end=self._upkeep.end
        )
        prefixes.tidy(prefix_dir, self._limits.prefix_bytes)
        workshop = Workshop(
            command,
            run_dir,
            threads or usable_cores(),
            self._limits,
            self._memory.spare,
            prefix_dir,
        )
        self._loading = Loading(workshop, self._memory, self._upkeep, events)

    async def load_committed(self, loadable: Loadable) -> None:
        """Make `loadable` what answers under its alias; see `Workers`.

        If it cannot be loaded and nothing else answered, it stays there, broken, for `status`. If
        it does not fit beside the models in memory, it is cold until a request needs it.
        """
        async with self._changing(loadable.alias) as alias:
            await self._loading.load_committed(alias, loadable)

    async def load_candidate(self, loadable: Loadable) -> None:
        """Load `loadable` to be proved; see `Workers`."""
        self._upkeep.refuse_quarantined(loadable)
        async with self._changing(loadable.alias) as alias:
            await self._loading.load_candidate(alias, loadable)

    async def probe(self, alias: str, activation: Activation, before_milli_tps: int) -> Probed:
        """Put the candidate to its proof; see `Workers`."""
        served = self._alias(alias)
        candidate = _candidate_of(served)
        before = Before(candidate.memory_bytes, before_milli_tps)
        probed = await golden.probe(candidate, activation, before, self._observed.request)
        if probed.fault is None:
            candidate.is_proved = True
            served.dispatch()
        return probed

    def share_traffic(self, alias: str, percent: int) -> None:
        """Give the candidate this share of the requests; see `Workers`."""
        self._alias(alias).set_share(percent)

    async def candidate_failure(self, alias: str) -> ExecutionError:
        """Wait until the candidate's worker dies; see `Workers`."""
        try:
            candidate = _candidate_of(self._alias(alias))
        except ExecutionError as error:
            return error
        return ExecutionError(ReasonCode.WORKER_CRASHED, await candidate.died())

    async def promote(self, alias: str) -> None:
        """Make the candidate what answers under the alias; see `Workers`.

        Raises:
            ExecutionError: WORKER_CRASHED: there is none, or it died.
        """
        async with self._changing(alias) as served:
            candidate = _candidate_of(served)
            if not candidate.is_ready:
                raise ExecutionError(ReasonCode.WORKER_CRASHED, await candidate.died())
            self._loading.promote(served)

    async def drop_candidate(self, alias: str) -> None:
        """End the candidate, if any; see `Workers`."""
        async with self._changing(alias) as served:
            await self._loading.drop_candidate(served)

    async def unload(self, alias: str) -> None:
        """End everything under the alias."""
        async with self._changing(alias) as served:
            for hosted in served.all_hosted():
                await self._upkeep.end(hosted)
            served.clear()

    def running(self) -> tuple[Running, ...]:
        """Return what answers under each alias, in order of alias.

        A model that could not be brought back to memory does not answer, so it is not there.
        """
        return tuple(
            Running(
                status.committed,
                ModelState.LOADED if status.condition is Condition.READY else ModelState.COLD,
                self.seen(status.committed.digest),
            )
            for status in self.statuses()
            if status.committed and status.condition is not Condition.BROKEN
        )

    def metrics(self) -> tuple[ModelMetrics, ...]:
        """Return the metrics of each committed model and candidate, in order of alias."""
        return tuple(
            self._metrics(name, hosted)
            for name, alias in sorted(self._by_name.items())
            for hosted in (alias.committed, alias.candidate)
            if hosted
        )

    def _metrics(self, alias: str, hosted: HostedModel) -> ModelMetrics:
        digest = hosted.loadable.digest
        return ModelMetrics(
            alias=alias,
            digest=digest,
            window_s=round(monotonic() - hosted.since),
            requests=hosted.traffic.requests,
            errors=hosted.traffic.errors,
            decode_milli_tps=self.seen(digest).decode_milli_tps,
            ttft_p95_ms=self._observed.ttft_p95_ms(digest),
            peak_bytes=hosted.peak_bytes(),
            declared_bytes=hosted.memory_bytes,
            crashes=self._crashes.count(digest),
        )

    def traffic(self, alias: str) -> Traffic:
        """Return what real requests to the candidate showed since it was loaded."""
        candidate = self._alias(alias).candidate
        return candidate.traffic if candidate else Traffic()

    def is_busy(self) -> bool:
        """Tell whether a model answers, is waited for, loads or is proved."""
        return any(
            one.queued or one.busy or one.candidate or one.condition in _UNDER_WAY
            for one in self.statuses()
        )

    def room(self) -> int:
        """Return how many bytes of the budget no model takes, or is about to take."""
        return max(0, self._memory.room())

    async def close(self) -> None:
        """End all workers, whatever else is going on."""
        await self._memory.close()
        for alias in self._by_name.values():
            for hosted in alias.all_hosted():
                hosted.is_given_up = True
                await self._upkeep.end(hosted)
            alias.clear()

    def _alias(self, name: str) -> ServedAlias:
        if name not in self._by_name:
            self._by_name[name] = ServedAlias(name, self._limits, self._memory.poke)
        return self._by_name[name]

    @asynccontextmanager
    async def _changing(self, name: str) -> AsyncGenerator[ServedAlias]:
        """Hold the alias's lock: meanwhile nobody evicts its model, nor loads it on demand."""
        alias = self._alias(name)
        try:
            async with alias.changing:
                yield alias
        finally:
            self._memory.poke()

    def _quarantined(self, alias: str) -> None:
        self.on_quarantine(alias)


_UNDER_WAY: Final = frozenset({Condition.RESTARTING, Condition.SET_ASIDE})


def _nothing(_alias: str) -> None:
    """Nobody listens yet."""


def _candidate_of(alias: ServedAlias) -> HostedModel:
    if alias.candidate is None:
        message = f"no candidate is loaded under {alias.name!r}"
        raise ExecutionError(ReasonCode.WORKER_CRASHED, message)
    return alias.candidate
