"""Carrying out one phase of an execution; every effect may be begun again after a power cut.

Whoever calls `carry_out` has persisted the phase, and persists what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, assert_never

from sprat_proto.manifest import Activation
from sprat_proto.probes import Traffic
from sprat_proto.states import ExecutionState, ReasonCode, Step
from sprat_proto.trust import custom_of

from sprat_agent.audit.intents import Effect
from sprat_agent.runtime.quarantine import Crashes, refuse_quarantined
from sprat_agent.sync import freshness, phases, plan, proving
from sprat_agent.sync.fitting import Fitting
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.plan import Execution
from sprat_agent.sync.ports import (
    ExecutionError,
    Installed,
    Probed,
    Registry,
    RetryLaterError,
    Workers,
)
from sprat_agent.sync.room import Recording

# How much of a soak a power cut may cost.
WATCH_SLICE_S: Final = 60


@dataclass(frozen=True)
class _Watch:
    """A candidate that passed its probe since this process started."""

    failing: asyncio.Task[ExecutionError]  # done when it fails, if it ever does
    earlier: Traffic  # what real requests showed before it was loaded here


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
        recording: Recording | None = None,
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
            recording: Refuses what could not be recorded; None: nothing is.
        """
        self._recording = recording
        self._fitting = fitting
        self._crashes = crashes
        self._now = now
        self._registry = registry
        self._workers = workers
        self._ledger = ledger
        self._watch_slice_s = watch_slice_s
        self._watched: dict[str, _Watch] = {}  # by execution

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
                self._require_that_it_may_begin(execution)
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
                alias = wanted.alias
                with self._ledger.intents.around(
                    Effect.ROLLBACK, f"alias/{alias}", wanted.digest, self._ledger.stands_for(alias)
                ):
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
        with ExitStack() as removing:
            for digest in sorted(await self._registry.superfluous(frozenset(keep))):
                removing.enter_context(
                    self._ledger.intents.around(Effect.REMOVAL, f"version/{digest}", digest, "")
                )
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

    def _require_that_it_may_begin(self, execution: Execution) -> None:
        refuse_quarantined(execution.wanted.name, execution.wanted.digest, self._crashes)
        if self._recording:
            self._recording.check(execution)
        self._require_fresh_plan(execution)

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
            await self._prove(execution, installed)
        elif watched.failing.done():
            raise watched.failing.result()
        return installed

    async def _activate(self, execution: Execution) -> Installed:
        installed = await self._candidate(execution)
        percent = installed.manifest.activation.soak_traffic_percent
        self._workers.share_traffic(execution.wanted.alias, percent)
        return installed

    async def _prove(self, execution: Execution, installed: Installed) -> None:
        """Load the candidate and put it to its proof.

        What it is compared with is kept first, since the next process may not know it any more;
        what was measured is kept before anything is decided.
        """
        alias = execution.wanted.alias
        former = self._ledger.committed().get(alias)
        rate = self._workers.seen(former.wanted.digest).decode_milli_tps if former else 0
        kept = proving.begin(self._ledger.proving(execution), rate, execution.wanted.name)
        self._ledger.note_proving(execution, kept, execution.watched_s)
        await self._workers.load_candidate(installed.loadable)
        activation = installed.manifest.activation
        probed = await self._workers.probe(alias, activation, kept.before_milli_tps)
        self._keep(execution, probed)
        failing = self._workers.candidate_failure(alias)
        self._watched[execution.execution_id] = _Watch(
            asyncio.create_task(failing, name=f"watch {execution.execution_id}"), kept.traffic
        )

    def _keep(self, execution: Execution, probed: Probed) -> None:
        self._ledger.note_probe(execution, probed.result)
        if probed.fault:
            raise probed.fault

    async def _soak(self, execution: Execution) -> None:
        installed = await self._activate(execution)
        activation = installed.manifest.activation
        await self._watch(execution, activation)
        again = proving.at_the_end(activation)
        probed = await self._workers.probe(execution.wanted.alias, again, 0)
        if fault := probed.fault:
            self._ledger.note_probe(execution, probed.result)
            raise ExecutionError(
                ReasonCode.SOAK_FAILED,
                f"after {activation.soak_s} s under watch: {fault.message}",
                expected=fault.expected,
                found=fault.found,
            ) from fault

    async def _watch(self, execution: Execution, activation: Activation) -> None:
        """Watch the candidate for what is left of its soak; time without power does not count.

        What real requests show is judged after each slice: a bad candidate need not soak to the
        end. They count over all starts of the agent.
        """
        watch = self._watched[execution.execution_id]
        alias, soak_s, watched_s = execution.wanted.alias, activation.soak_s, execution.watched_s
        while watched_s < soak_s:
            slice_s = min(self._watch_slice_s, soak_s - watched_s)
            done, _ = await asyncio.wait({watch.failing}, timeout=slice_s)
            if done:
                raise watch.failing.result()
            watched_s += slice_s
            kept = proving.watched(
                self._ledger.proving(execution), watch.earlier, self._workers.traffic(alias)
            )
            self._ledger.note_proving(execution, kept, watched_s)
            if breach := proving.breach_of_soak(activation, kept):
                raise ExecutionError(
                    ReasonCode.SOAK_FAILED,
                    f"{execution.wanted.name}, after {watched_s} s under watch: {breach.message}",
                    expected=breach.expected,
                    found=breach.found,
                )

    async def _stop_watching(self, execution: Execution) -> None:
        watched = self._watched.pop(execution.execution_id, None)
        if watched:
            watched.failing.cancel()
            await asyncio.wait({watched.failing})
