"""What goes on with a worker once it was started: it is watched, started again, drained, ended.

Each model has one task at a time that watches it, and a replaced one another that drains it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from sprat_proto.states import ReasonCode

from sprat_agent.runtime.background import Background
from sprat_agent.runtime.events import ModelEvents
from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.runtime.keeper import keep
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.quarantine import (
    Crashes,
    is_quarantined,
    quarantined,
    refuse_quarantined,
)
from sprat_agent.runtime.served import ServedAlias
from sprat_agent.sync.ports import ExecutionError, Loadable


class Upkeep:
    """Keeps what is in memory there, and counts what crashes."""

    def __init__(
        self,
        events: ModelEvents,
        crashes: Crashes,
        limits: Limits,
        on_quarantine: Callable[[str], None],
    ) -> None:
        """Watch nothing yet.

        Args:
            events: What audit is to know.
            crashes: Where each release's crashes are counted.
            limits: Times to allow.
            on_quarantine: Called with an alias whose committed model crashed too often.
        """
        self._events = events
        self._crashes = crashes
        self._limits = limits
        self._on_quarantine = on_quarantine
        self._watchers = Background()
        self._drains = Background()

    def keep(
        self, alias: ServedAlias, hosted: HostedModel, *, at_once: bool = False
    ) -> asyncio.Event:
        """Restart the model's worker whenever it dies; the event tells of the first attempt."""
        attempted = asyncio.Event()

        def on_start(error: ExecutionError | None) -> bool:
            alias.is_broken = error is not None
            attempted.set()
            if error is None:
                self._events.loaded(hosted)
                return True
            self._events.refused(hosted, error)
            return self.may_try_again(alias, hosted, error)

        def on_crash(reason: str) -> bool:
            self._events.crashed(hosted, reason)
            return self._may_go_on(alias, hosted)

        async def keeping() -> None:
            try:
                await keep(hosted, self._limits, on_crash, on_start, at_once=at_once)
            finally:
                alias.poke()  # a model that is given up takes no memory

        self._watchers.run(hosted, keeping())
        return attempted

    def load_cold(self, alias: ServedAlias) -> None:
        """Begin to load the cold committed model, for whose memory there is room."""
        if alias.committed is None:
            raise RuntimeError(f"nothing is committed under {alias.name!r}")
        alias.committed.is_cold = False
        self.keep(alias, alias.committed, at_once=True)

    def watch(self, candidate: HostedModel) -> None:
        """Report and count the crash of a candidate, which nobody starts again."""
        self._watchers.run(candidate, self._report_crash(candidate))

    async def reported(self, candidate: HostedModel) -> None:
        """Wait until a candidate's crash is counted, if it has crashed."""
        if candidate.has_crashed:
            await self._watchers.wait([candidate])

    def drain(self, alias: ServedAlias, hosted: HostedModel) -> None:
        """Begin to let a replaced worker finish its requests; then it is ended."""
        alias.draining.append(hosted)
        self._drains.run(hosted, self._drain(alias, hosted))

    async def drained(self, alias: ServedAlias) -> None:
        """Wait until the alias's replaced workers are gone."""
        await self._drains.wait(alias.draining)

    async def end(self, hosted: HostedModel) -> None:
        """End the model's worker, and all that is going on with it."""
        await self._drains.stop(hosted)
        await self._watchers.stop(hosted)
        await self._end_worker(hosted)

    def refuse_quarantined(self, loadable: Loadable) -> None:
        """Refuse to have to do with what has crashed too often.

        Raises:
            ExecutionError: QUARANTINED.
        """
        refuse_quarantined(loadable.name, loadable.digest, self._crashes)

    def may_try_again(self, alias: ServedAlias, hosted: HostedModel, error: ExecutionError) -> bool:
        """Tell whether a failed start may be repeated; a crash counts."""
        return error.code is not ReasonCode.WORKER_CRASHED or self._may_go_on(alias, hosted)

    def count(self, hosted: HostedModel) -> int:
        """Count a crash, durably, before anything follows from it."""
        count = self._crashes.note(hosted.loadable.digest)
        if is_quarantined(count):
            self._events.quarantined(hosted, count)
        return count

    def _may_go_on(self, alias: ServedAlias, hosted: HostedModel) -> bool:
        """Count a crash of a committed model; tell whether it may be started again."""
        count = self.count(hosted)
        if not is_quarantined(count):
            return True
        alias.is_broken = hosted.is_given_up = True
        hosted.trouble = quarantined(hosted.loadable.name, count).message
        self._on_quarantine(alias.name)
        return False

    async def _report_crash(self, candidate: HostedModel) -> None:
        self._events.crashed(candidate, await candidate.died())
        self.count(candidate)

    async def finished(self, hosted: HostedModel) -> None:
        """Wait until the model answers nothing, but not for ever."""
        if hosted.worker:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.drain_timeout_s):
                    await hosted.worker.idle.wait()

    async def _drain(self, alias: ServedAlias, hosted: HostedModel) -> None:
        await self._watchers.stop(hosted)
        await self.finished(hosted)
        await self._end_worker(hosted)
        alias.draining.remove(hosted)  # only now is its memory back
        alias.poke()

    async def _end_worker(self, hosted: HostedModel) -> None:
        if await hosted.end():
            self._events.unloaded(hosted)
