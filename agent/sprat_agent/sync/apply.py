"""Carrying out one phase of an execution; every effect may be begun again after a power cut.

Whoever calls `carry_out` has persisted the phase, and persists what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final, assert_never

from sprat_proto.states import ExecutionState, ReasonCode, Step
from sprat_proto.trust import custom_of

from sprat_agent.runtime.quarantine import Crashes, refuse_quarantined
from sprat_agent.sync import freshness, phases, plan
from sprat_agent.sync.fitting import Fitting
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.plan import Execution
from sprat_agent.sync.ports import (
    ExecutionError,
    Installed,
    Registry,
    RetryLaterError,
    Workers,
)

# How much of a soak a power cut may cost.
WATCH_SLICE_S: Final = 60


class Effects:
    """What the phases do to the registry and the workers."""

    def __init__(
        self,
        registry: Registry,
        workers: Workers,
        ledger: Ledger,
        *,
        fitting: Fitting,
        crashes: Crashes,
        now: Callable[[], datetime],
        watch_slice_s: int = WATCH_SLICE_S,
    ) -> None:
        """Work on these.

        Args:
            registry: Where models come from.
            workers: Where they run.
            ledger: What is assigned and how far it came.
            fitting: Judges whether a variant fits, before it is fetched and before it is installed.
            crashes: What is in quarantine, of which nothing is fetched.
            now: The time by which the plan's expiry is judged.
            watch_slice_s: See `WATCH_SLICE_S`.
        """
        self._fitting = fitting
        self._crashes = crashes
        self._now = now
        self._registry = registry
        self._workers = workers
        self._ledger = ledger
        self._watch_slice_s = watch_slice_s
        # By execution whose candidate passed its probe since this process started: its failure,
        # if it ever comes.
        self._watched: dict[str, asyncio.Task[ExecutionError]] = {}

    async def carry_out(self, execution: Execution) -> None:
        """Do what the execution's phase is there for.

        Raises:
            RejectedError: It does not fit this device.
            ExecutionError: It cannot be had.
            RetryLaterError: Something passing stood in the way.
        """
        wanted, phase = execution.wanted, execution.phase
        match phase:
            case ExecutionState.QUEUED | Step.DOWNLOADED | Step.WAITING_WINDOW:
                # Stations: they are reported; what holds an execution in one is `holds.judge`.
                return
            case Step.DOWNLOADING:
                refuse_quarantined(wanted.name, wanted.digest, self._crashes)
                self._require_fresh_plan(execution)
                await self._registry.download(wanted, partial(self._fitting.check, execution))
            case Step.VERIFYING:
                await self._verify(execution)
            case Step.INSTALLING:
                self._require_fresh_plan(execution)
                # Much may have changed since: a download takes hours where lines are thin.
                await self._fitting.check(execution, await self._registry.fetched(wanted))
                await self._registry.install(wanted)
            case Step.PROBING | Step.COMMITTING:
                await self._candidate(execution)
            case Step.ACTIVATING:
                await self._activate(execution)
            case Step.SOAKING:
                await self._soak(execution)
            case Step.ROLLING_BACK:
                await self.undo(execution, frozenset())
            case (
                ExecutionState.IN_PROGRESS
                | ExecutionState.SUCCEEDED
                | ExecutionState.FAILED
                | ExecutionState.TIMED_OUT
                | ExecutionState.REJECTED
                | ExecutionState.CANCELED
                | ExecutionState.REMOVED
                | ExecutionState.ROLLED_BACK
            ):
                raise AssertionError(f"{phase} has no effect")
            case _:
                assert_never(phase)

    async def undo(self, execution: Execution, still_wanted: frozenset[str]) -> None:
        """End the candidate and remove what only the execution brought; what answered answers.

        Args:
            execution: It failed or was superseded.
            still_wanted: Digests of which nothing fetched is to be removed.
        """
        await self._stop_watching(execution)
        await self._workers.drop_candidate(execution.wanted.alias)
        if execution.wanted.digest not in still_wanted:
            await self.clean(ending=execution)

    async def clean(self, ending: Execution | None = None) -> None:
        """Remove every version that is neither committed nor the one before.

        Nothing while another execution waits with what it has fetched; it cleans up at its end.

        Args:
            ending: An execution that ends now, and is under way by what is persisted.
        """
        for one in self._ledger.executions():
            is_other = ending is None or one.execution_id != ending.execution_id
            if is_other and phases.is_under_way(one.phase):
                return
        keep: set[str] = set()
        for one in self._ledger.committed().values():
            keep.add(one.wanted.digest)
            if one.previous:
                keep.add(one.previous.wanted.digest)
        await self._registry.collect_garbage(frozenset(keep))

    async def installed(self, execution: Execution) -> Installed:
        """Return the execution's installed version, verified anew."""
        return await self._registry.open_installed(execution.wanted, execution.context)

    async def promote(self, execution: Execution) -> None:
        """Make the committed variant what answers.

        Raises:
            ExecutionError: It cannot be loaded; it stays committed, and the supervisor tries again.
        """
        await self._stop_watching(execution)
        try:
            await self._workers.promote(execution.wanted.alias)
        except ExecutionError:
            installed = await self.installed(execution)
            await self._workers.load_committed(installed.loadable)

    def _require_fresh_plan(self, execution: Execution) -> None:
        """Begin nothing new under a plan that has expired: wait for one that was signed anew."""
        if freshness.is_stale(self._ledger.expires(), self._now()):
            raise RetryLaterError(
                f"{ReasonCode.PLAN_EXPIRED}: the plan with {execution.wanted.name} has expired:"
                " waiting for a newer one"
            )

    async def _verify(self, execution: Execution) -> None:
        manifest = await self._registry.verify(execution.wanted)
        refusal = plan.refusal_of_age(
            manifest.name,
            custom_of(manifest),
            self._ledger.counter_floor(custom_of(manifest).name),
            was_proved=self._ledger.was_proved(execution.wanted.digest),
        )
        if refusal:
            raise ExecutionError(
                refusal.code, refusal.message, expected=refusal.expected, found=refusal.found
            )

    async def _candidate(self, execution: Execution) -> Installed:
        """Have the candidate loaded, proved and well.

        After a restart it is loaded and proved anew. One that died since it was proved has failed.
        """
        installed = await self.installed(execution)
        watched = self._watched.get(execution.execution_id)
        if watched is None:
            alias = execution.wanted.alias
            await self._workers.load_candidate(installed.loadable)
            await self._workers.probe(alias, installed.manifest.activation)
            self._watched[execution.execution_id] = asyncio.create_task(
                self._workers.candidate_failure(alias), name=f"watch {execution.execution_id}"
            )
        elif watched.done():
            raise watched.result()
        return installed

    async def _activate(self, execution: Execution) -> Installed:
        installed = await self._candidate(execution)
        percent = installed.manifest.activation.soak_traffic_percent
        self._workers.share_traffic(execution.wanted.alias, percent)
        return installed

    async def _soak(self, execution: Execution) -> None:
        activation = (await self._activate(execution)).manifest.activation
        await self._watch(execution, activation.soak_s)
        try:
            await self._workers.probe(execution.wanted.alias, activation)
        except ExecutionError as error:
            raise ExecutionError(
                ReasonCode.SOAK_FAILED,
                f"after {activation.soak_s} s under watch: {error.message}",
                expected=error.expected,
                found=error.found,
            ) from error

    async def _watch(self, execution: Execution, soak_s: int) -> None:
        """Watch the candidate for what is left of its soak; time without power does not count."""
        failing = self._watched[execution.execution_id]
        watched_s = execution.watched_s
        while watched_s < soak_s:
            slice_s = min(self._watch_slice_s, soak_s - watched_s)
            done, _ = await asyncio.wait({failing}, timeout=slice_s)
            if done:
                raise failing.result()
            watched_s += slice_s
            self._ledger.note_watched(execution, watched_s)

    async def _stop_watching(self, execution: Execution) -> None:
        watched = self._watched.pop(execution.execution_id, None)
        if watched:
            watched.cancel()
            await asyncio.wait({watched})
