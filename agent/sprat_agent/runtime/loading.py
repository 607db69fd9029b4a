"""How models come into memory under an alias and give way there; the caller holds its lock."""

from __future__ import annotations

import asyncio
from typing import Final

from sprat_proto.states import ReasonCode

from sprat_agent.runtime.events import ModelEvents
from sprat_agent.runtime.hosted import HostedModel, Workshop
from sprat_agent.runtime.memory import Memory
from sprat_agent.runtime.served import ServedAlias
from sprat_agent.runtime.upkeep import Upkeep
from sprat_agent.sync.ports import ExecutionError, Loadable

# What may be otherwise at the next attempt; wrong files and too little memory will not be.
PASSING: Final = frozenset({ReasonCode.LOAD_FAILED, ReasonCode.WORKER_CRASHED})


class Loading:
    """Loads the first model, a candidate beside or in the place of it, and promotes that."""

    def __init__(
        self, workshop: Workshop, memory: Memory, upkeep: Upkeep, events: ModelEvents
    ) -> None:
        self._workshop = workshop
        self._memory = memory
        self._upkeep = upkeep
        self._events = events

    async def load_committed(self, alias: ServedAlias, loadable: Loadable) -> None:
        """Make `loadable` what answers under the alias.

        Raises:
            ExecutionError: See `sync.ports.Workers`.
        """
        self._refuse_quarantined(alias, loadable)
        if _is_ready(alias.candidate, loadable):
            self.promote(alias)
            return
        await self.drop_candidate(alias)
        if _is_ready(alias.committed, loadable) or _is_cold(alias, loadable):
            return
        if alias.committed and _is_replaced(alias.committed, loadable):
            await self._upkeep.end(alias.committed)
            alias.committed = None
        if alias.committed:
            await self._load_candidate(alias, loadable)
            self.promote(alias)
        else:
            await self._load_first(alias, loadable)

    async def load_candidate(self, alias: ServedAlias, loadable: Loadable) -> None:
        """Load `loadable` to be proved, unless it is there already.

        Raises:
            ExecutionError: See `sync.ports.Workers`.
        """
        if _is_ready(alias.candidate, loadable):
            return
        await self.drop_candidate(alias)
        await self._load_candidate(alias, loadable)

    async def drop_candidate(self, alias: ServedAlias) -> None:
        """End the candidate, if any, and bring back what made room for it."""
        if alias.candidate:
            await self._upkeep.reported(alias.candidate)
            await self._upkeep.end(alias.candidate)
            alias.candidate = None
            alias.set_share(0)
        attempted = self._bring_back(alias)
        if attempted:
            await attempted.wait()

    def promote(self, alias: ServedAlias) -> None:
        """Make the candidate what answers; the previous worker is drained."""
        previous, alias.committed = alias.committed, alias.candidate
        alias.candidate = None
        alias.is_set_aside = alias.is_broken = False
        alias.set_share(0)
        if alias.committed:
            self._upkeep.keep(alias, alias.committed)
        if previous:
            self._upkeep.drain(alias, previous)
        alias.dispatch()

    def _refuse_quarantined(self, alias: ServedAlias, loadable: Loadable) -> None:
        """Refuse what crashed too often; where nothing else is committed, the alias says so."""
        try:
            self._upkeep.refuse_quarantined(loadable)
        except ExecutionError as error:
            if alias.committed is None:
                alias.committed = self._host(alias, loadable)
                alias.committed.trouble = error.message
                alias.is_broken = alias.committed.is_given_up = True
            raise

    async def _load_first(self, alias: ServedAlias, loadable: Loadable) -> None:
        """Load where nothing is committed, or leave it cold when it does not fit now."""
        hosted = self._host(alias, loadable)
        hosted.is_cold = hosted.memory_bytes > self._memory.room()
        alias.committed = hosted
        alias.is_broken = False
        try:
            if hosted.is_cold:
                await self._find_room(alias, hosted)
            if hosted.is_cold:
                return
            await hosted.start()
        except ExecutionError as error:
            self._events.refused(hosted, error)
            alias.is_broken = True
            hosted.trouble = error.message
            if error.code in PASSING and self._upkeep.may_try_again(alias, hosted, error):
                self._upkeep.keep(alias, hosted)
            else:  # what is cold may fit later, when a pinned model is gone
                hosted.is_given_up = not hosted.is_cold
            raise
        except asyncio.CancelledError:
            alias.committed = None
            raise
        alias.is_broken = False
        self._events.loaded(hosted)
        self._upkeep.keep(alias, hosted)

    async def _find_room(self, alias: ServedAlias, hosted: HostedModel) -> None:
        """Evict others for a pinned model; see that any other may come to fit."""
        needed = hosted.memory_bytes
        if message := self._memory.refusal(alias, needed):
            raise self._memory.error(message, needed)
        if hosted.is_pinned:

            def grant() -> None:
                hosted.is_cold = False

            timeout_s = self._workshop.limits.drain_timeout_s
            await self._memory.claim(alias, (needed, needed), grant, timeout_s)

    async def _load_candidate(self, alias: ServedAlias, loadable: Loadable) -> None:
        """Load beside what answers, or in its place when both do not fit; others may give way."""
        candidate = self._host(alias, loadable)
        needed = candidate.memory_bytes
        if needed > self._memory.room() and alias.draining:
            await self._upkeep.drained(alias)
        committed = self._to_set_aside(alias, needed)
        lent = committed.reserved_bytes if committed else 0

        def grant() -> None:
            alias.candidate = candidate
            alias.set_share(0)

        try:
            if needed - lent <= self._memory.room():
                grant()
            else:
                timeout_s = self._workshop.limits.drain_timeout_s
                await self._memory.claim(alias, (needed - lent, needed), grant, timeout_s)
            if committed:
                alias.is_set_aside = True  # from now on it takes no request
                await self._upkeep.finished(committed)
                await self._upkeep.end(committed)
            await candidate.start()
        except ExecutionError as error:
            self._events.refused(candidate, error)
            if error.code is ReasonCode.WORKER_CRASHED:
                self._upkeep.count(candidate)
            await self.drop_candidate(alias)
            raise
        except asyncio.CancelledError:
            alias.candidate = None
            self._bring_back(alias)
            raise
        self._events.loaded(candidate)
        self._upkeep.watch(candidate)

    def _to_set_aside(self, alias: ServedAlias, needed: int) -> HostedModel | None:
        """Return the committed model if it cannot be in memory beside `needed` bytes."""
        committed = alias.committed
        if committed is None or committed.is_given_up:
            return None
        both = needed + committed.memory_bytes - committed.reserved_bytes
        return committed if both > self._memory.room() else None

    def _bring_back(self, alias: ServedAlias) -> asyncio.Event | None:
        """Load the committed model again if it had made room; the event tells of the attempt.

        If others took that room meanwhile, it is cold.
        """
        committed = alias.committed
        if not alias.is_set_aside or committed is None:
            return None
        alias.is_set_aside = False
        if committed.is_ready:  # it was still finishing its requests
            self._upkeep.keep(alias, committed)
            alias.dispatch()
            return None
        committed.is_cold = committed.memory_bytes > self._memory.room()
        return None if committed.is_cold else self._upkeep.keep(alias, committed, at_once=True)

    def _host(self, alias: ServedAlias, loadable: Loadable) -> HostedModel:
        return HostedModel(loadable, self._workshop, alias.dispatch)


def _is_ready(hosted: HostedModel | None, loadable: Loadable) -> bool:
    return hosted is not None and hosted.is_ready and _is_same(hosted.loadable, loadable)


def _is_same(one: Loadable, other: Loadable) -> bool:
    """Tell whether they are one variant, loaded and served the same way."""
    how, asked = (one.context, one.serving), (other.context, other.serving)
    return one.digest == other.digest and how == asked


def _is_cold(alias: ServedAlias, loadable: Loadable) -> bool:
    """Tell whether `loadable` is what a request would have loaded."""
    hosted = alias.committed
    if hosted is None or not _is_same(hosted.loadable, loadable):
        return False
    return hosted.is_cold and not (alias.is_broken or alias.is_set_aside)


def _is_replaced(committed: HostedModel, loadable: Loadable) -> bool:
    """Tell whether there is no sense in keeping it until `loadable` is in memory."""
    return committed.is_given_up or committed.loadable.digest == loadable.digest
