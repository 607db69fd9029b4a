"""All models of this device: one worker process each, within one memory budget.

Implements `sync.ports.Workers` for executions, and what the local API asks. Runs in the agent's
event loop; only files are read in threads.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from sprat_proto.manifest import Activation
from sprat_proto.states import ModelState, ReasonCode

from sprat_agent.profile.cpu import usable_cores
from sprat_agent.runtime import golden
from sprat_agent.runtime.answer import Answer, Vectors, embed
from sprat_agent.runtime.background import Background
from sprat_agent.runtime.events import ModelEvents, OnEvent
from sprat_agent.runtime.faults import ModelNotFoundError
from sprat_agent.runtime.hosted import HostedModel, Workshop
from sprat_agent.runtime.keeper import keep
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.memory import Memory
from sprat_agent.runtime.process import WORKER_COMMAND, Inputs
from sprat_agent.runtime.quarantine import (
    Crashes,
    is_quarantined,
    quarantined,
    refuse_quarantined,
)
from sprat_agent.runtime.served import Condition, ServedAlias, Status
from sprat_agent.runtime.slots import MOST, extra_slots
from sprat_agent.runtime.wire import Request, Text, Tokens
from sprat_agent.sync.ports import ExecutionError, Loadable, Running

# What may be otherwise at the next attempt; wrong files and too little memory will not be.
PASSING: Final = frozenset({ReasonCode.LOAD_FAILED, ReasonCode.WORKER_CRASHED})


class Supervisor:
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
    ) -> None:
        """Supervise nothing yet.

        Args:
            budget_bytes: What all models may take together.
            run_dir: A folder of our own; what earlier workers left in it is removed.
            on_event: Called with tag, subject and details of what audit is to know.
            crashes: Where each release's crashes are counted.
            threads: For each engine; by default, the processors that this process may use.
            limits: Times and queue lengths.
            command: What runs a worker.
        """
        run_dir = run_dir.resolve()  # workers run elsewhere
        run_dir.mkdir(parents=True, exist_ok=True)
        for left_over in run_dir.glob("worker-*"):
            shutil.rmtree(left_over)
        self._events = ModelEvents(on_event)
        self._crashes = crashes
        # Called with an alias whose committed model was put into quarantine.
        self.on_quarantine: Callable[[str], None] = _nothing
        self._limits = limits or Limits()
        self._workshop = Workshop(
            command, run_dir, threads or usable_cores(), self._limits, self._extra_slots
        )
        self._aliases: dict[str, ServedAlias] = {}
        self._memory = Memory(budget_bytes, self._aliases, load=self._load_cold, end=self._end)
        self._watchers = Background()
        self._drains = Background()

    # sync.ports.Workers

    async def load_committed(self, loadable: Loadable) -> None:
        """Make `loadable` what answers under its alias; see `Workers`.

        If it cannot be loaded and nothing else answered, it stays there, broken, for `status`. If
        it does not fit beside the models in memory, it is cold until a request needs it.
        """
        alias = self._alias(loadable.alias)
        async with self._changing(alias):
            self._refuse_quarantined(alias, loadable)
            if _is_ready(alias.candidate, loadable):
                self._promote(alias)
                return
            await self._drop_candidate(alias)
            if _is_ready(alias.committed, loadable) or _is_cold(alias, loadable):
                return
            if alias.committed and _is_replaced(alias.committed, loadable):
                await self._end(alias.committed)
                alias.committed = None
            if alias.committed:
                await self._load_candidate(alias, loadable)
                self._promote(alias)
            else:
                await self._load_first(alias, loadable)

    async def load_candidate(self, loadable: Loadable) -> None:
        """Load `loadable` to be proved; see `Workers`."""
        refuse_quarantined(loadable.name, loadable.digest, self._crashes)
        alias = self._alias(loadable.alias)
        async with self._changing(alias):
            if _is_ready(alias.candidate, loadable):
                return
            await self._drop_candidate(alias)
            await self._load_candidate(alias, loadable)

    async def probe(self, alias: str, activation: Activation) -> None:
        """Ask the candidate its golden prompts; see `Workers`."""
        served = self._alias(alias)
        candidate = _candidate_of(served)
        await golden.probe(candidate, activation)
        candidate.is_proved = True
        served.dispatch()

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
        served = self._alias(alias)
        async with self._changing(served):
            candidate = _candidate_of(served)
            if not candidate.is_ready:
                raise ExecutionError(ReasonCode.WORKER_CRASHED, await candidate.died())
            self._promote(served)

    async def drop_candidate(self, alias: str) -> None:
        """End the candidate, if any; see `Workers`."""
        served = self._alias(alias)
        async with self._changing(served):
            await self._drop_candidate(served)

    async def unload(self, alias: str) -> None:
        """End everything under the alias."""
        served = self._alias(alias)
        async with self._changing(served):
            for hosted in served.all_hosted():
                await self._end(hosted)
            served.clear()

    def running(self) -> tuple[Running, ...]:
        """Return what answers under each alias, in order of alias.

        A model that could not be brought back to memory does not answer, so it is not there.
        """
        return tuple(
            Running(
                status.committed,
                ModelState.LOADED if status.condition is Condition.READY else ModelState.COLD,
            )
            for status in self.statuses()
            if status.committed and status.condition is not Condition.BROKEN
        )

    # What the local API asks

    def statuses(self) -> tuple[Status, ...]:
        """Return how each alias is doing, in order of alias."""
        return tuple(
            self._aliases[name].status()
            for name in sorted(self._aliases)
            if self._aliases[name].all_hosted()
        )

    def offered(self) -> tuple[tuple[str, Loadable], ...]:
        """Return each alias that applications may ask and the model it stands for, in order."""
        aliases = sorted(self._aliases.items())
        return tuple((name, one) for name, alias in aliases if (one := alias.offered()))

    def find(self, name: str) -> Loadable:
        """Return the model that a name stands for; see `answering` for the names.

        Raises:
            ModelNotFoundError: There is none, or it is not proved yet.
        """
        found = self._resolve(name)[0].offered()
        if found is None:
            raise ModelNotFoundError(
                f"the model {name[:100]!r} is being proved and not offered yet"
            )
        return found

    @asynccontextmanager
    async def answering(
        self, name: str, request: Request, *, is_batch: bool = False
    ) -> AsyncGenerator[Answer]:
        """Have a request answered; leaving the context stops the generation.

        Args:
            name: An alias, a model, `model@release` or `model@release+variant`.
            request: What is asked.
            is_batch: It yields to requests that somebody waits for.

        Raises:
            AnswerError: It was not admitted; later errors come while the answer is iterated.
        """
        alias, pinned = self._resolve(name)
        answer = await Answer.begin(alias, request, pinned=pinned, is_batch=is_batch)
        try:
            yield answer
        finally:
            answer.stop()
            if answer.done:
                alias.note(answer.done)
                self._events.answered(answer)

    async def embedding(
        self, name: str, inputs: tuple[Text | Tokens, ...], *, is_truncated: bool = False
    ) -> Vectors:
        """Have texts made into vectors, admitted as requests for an answer are.

        Args:
            name: See `answering`.
            inputs: The texts.
            is_truncated: One that is too long is cut instead of refused.

        Raises:
            AnswerError: They were not admitted, or the model cannot do this.
        """
        alias, pinned = self._resolve(name)
        vectors = await embed(alias, Inputs(inputs, is_truncated), pinned=pinned)
        self._events.answered(vectors)
        return vectors

    async def close(self) -> None:
        """End all workers, whatever else is going on."""
        await self._memory.close()
        for alias in self._aliases.values():
            for hosted in alias.all_hosted():
                hosted.is_given_up = True
                await self._end(hosted)
            alias.clear()

    # Steps, under the alias's lock

    def _refuse_quarantined(self, alias: ServedAlias, loadable: Loadable) -> None:
        """Refuse what crashed too often; where nothing else is committed, the alias says so."""
        try:
            refuse_quarantined(loadable.name, loadable.digest, self._crashes)
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
            if error.code in PASSING and self._may_try_again(alias, hosted, error):
                self._keep(alias, hosted)
            else:  # what is cold may fit later, when a pinned model is gone
                hosted.is_given_up = not hosted.is_cold
            raise
        except asyncio.CancelledError:
            alias.committed = None
            raise
        alias.is_broken = False
        self._events.loaded(hosted)
        self._keep(alias, hosted)

    async def _find_room(self, alias: ServedAlias, hosted: HostedModel) -> None:
        """Evict others for a pinned model; see that any other may come to fit."""
        needed = hosted.memory_bytes
        if message := self._memory.refusal(alias, needed):
            raise self._memory.error(message, needed)
        if hosted.is_pinned:

            def grant() -> None:
                hosted.is_cold = False

            await self._memory.claim(alias, (needed, needed), grant, self._limits.drain_timeout_s)

    async def _load_candidate(self, alias: ServedAlias, loadable: Loadable) -> None:
        """Load beside what answers, or in its place when both do not fit; others may give way."""
        candidate = self._host(alias, loadable)
        needed = candidate.memory_bytes
        if needed > self._memory.room() and alias.draining:
            await self._drains.wait(alias.draining)
        committed = self._to_set_aside(alias, needed)
        lent = committed.reserved_bytes if committed else 0

        def grant() -> None:
            alias.candidate = candidate
            alias.set_share(0)

        try:
            if needed - lent <= self._memory.room():
                grant()
            else:
                timeout_s = self._limits.drain_timeout_s
                await self._memory.claim(alias, (needed - lent, needed), grant, timeout_s)
            if committed:
                alias.is_set_aside = True
                await self._end(committed)
            await candidate.start()
        except ExecutionError as error:
            self._events.refused(candidate, error)
            if error.code is ReasonCode.WORKER_CRASHED:
                self._count(candidate)
            await self._drop_candidate(alias)
            raise
        except asyncio.CancelledError:
            alias.candidate = None
            self._bring_back(alias)
            raise
        self._events.loaded(candidate)
        self._watchers.run(candidate, self._report_crash(candidate))

    async def _drop_candidate(self, alias: ServedAlias) -> None:
        if alias.candidate:
            if alias.candidate.has_crashed:
                await self._watchers.wait([alias.candidate])  # until that is counted
            await self._end(alias.candidate)
            alias.candidate = None
            alias.set_share(0)
        attempted = self._bring_back(alias)
        if attempted:
            await attempted.wait()

    def _bring_back(self, alias: ServedAlias) -> asyncio.Event | None:
        """Load the committed model again if it had made room; the event tells of the attempt.

        If others took that room meanwhile, it is cold.
        """
        committed = alias.committed
        if not alias.is_set_aside or committed is None:
            return None
        committed.is_cold = committed.memory_bytes > self._memory.room()
        alias.is_set_aside = False
        return None if committed.is_cold else self._keep(alias, committed, at_once=True)

    def _load_cold(self, alias: ServedAlias) -> None:
        """Begin to load the cold committed model, for whose memory there is room."""
        if alias.committed is None:
            raise RuntimeError(f"nothing is committed under {alias.name!r}")
        alias.committed.is_cold = False
        self._keep(alias, alias.committed, at_once=True)

    def _promote(self, alias: ServedAlias) -> None:
        previous, alias.committed = alias.committed, alias.candidate
        alias.candidate = None
        alias.is_set_aside = alias.is_broken = False
        alias.set_share(0)
        if alias.committed:
            self._keep(alias, alias.committed)
        if previous:
            alias.draining.append(previous)
            self._drains.run(previous, self._drain(alias, previous))
        alias.dispatch()

    async def _drain(self, alias: ServedAlias, hosted: HostedModel) -> None:
        """Let a replaced worker finish its requests, then end it."""
        await self._watchers.stop(hosted)
        if hosted.worker:
            with suppress(TimeoutError):
                await asyncio.wait_for(hosted.worker.idle.wait(), self._limits.drain_timeout_s)
        await self._end_worker(hosted)
        alias.draining.remove(hosted)  # only now is its memory back
        self._memory.poke()

    def _keep(
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
            return self._may_try_again(alias, hosted, error)

        def on_crash(reason: str) -> bool:
            self._events.crashed(hosted, reason)
            return self._may_go_on(alias, hosted)

        async def keeping() -> None:
            try:
                await keep(hosted, self._limits, on_crash, on_start, at_once=at_once)
            finally:
                self._memory.poke()  # a model that is given up takes no memory

        self._watchers.run(hosted, keeping())
        return attempted

    def _may_try_again(
        self, alias: ServedAlias, hosted: HostedModel, error: ExecutionError
    ) -> bool:
        """Tell whether a failed start may be repeated; a crash counts."""
        return error.code is not ReasonCode.WORKER_CRASHED or self._may_go_on(alias, hosted)

    def _may_go_on(self, alias: ServedAlias, hosted: HostedModel) -> bool:
        """Count a crash of a committed model; tell whether it may be started again."""
        count = self._count(hosted)
        if not is_quarantined(count):
            return True
        alias.is_broken = hosted.is_given_up = True
        hosted.trouble = quarantined(hosted.loadable.name, count).message
        self.on_quarantine(alias.name)
        return False

    def _count(self, hosted: HostedModel) -> int:
        """Count a crash, durably, before anything follows from it."""
        count = self._crashes.note(hosted.loadable.digest)
        if is_quarantined(count):
            self._events.quarantined(hosted, count)
        return count

    async def _report_crash(self, candidate: HostedModel) -> None:
        self._events.crashed(candidate, await candidate.died())
        self._count(candidate)

    async def _end(self, hosted: HostedModel) -> None:
        """End the model's worker, and all that is going on with it."""
        await self._drains.stop(hosted)
        await self._watchers.stop(hosted)
        await self._end_worker(hosted)

    async def _end_worker(self, hosted: HostedModel) -> None:
        if await hosted.end():
            self._events.unloaded(hosted)

    # What is known

    def _alias(self, name: str) -> ServedAlias:
        if name not in self._aliases:
            self._aliases[name] = ServedAlias(name, self._limits, self._memory.poke)
        return self._aliases[name]

    @asynccontextmanager
    async def _changing(self, alias: ServedAlias) -> AsyncGenerator[None]:
        """Hold the alias's lock: meanwhile nobody evicts its model, nor loads it on demand."""
        try:
            async with alias.changing:
                yield
        finally:
            self._memory.poke()

    def _extra_slots(self, hosted: HostedModel) -> int:
        """Return the slots that a model gets of what is free.

        Free is what is left when all others are in memory too, and a new release beside this one.
        """
        cold = sum(
            one.least_bytes
            for alias in self._aliases.values()
            for one in alias.all_hosted()
            if one is not hosted and not one.reserved_bytes and not one.is_given_up
        )
        slots = hosted.loadable.serving.slots
        free = self._memory.room() - cold - hosted.least_bytes
        return extra_slots(free, hosted.slot_bytes, MOST - slots + 1)

    def _host(self, alias: ServedAlias, loadable: Loadable) -> HostedModel:
        return HostedModel(loadable, self._workshop, alias.dispatch)

    def _to_set_aside(self, alias: ServedAlias, needed: int) -> HostedModel | None:
        """Return the committed model if it cannot be in memory beside `needed` bytes."""
        committed = alias.committed
        if committed is None or committed.is_given_up:
            return None
        both = needed + committed.memory_bytes - committed.reserved_bytes
        return committed if both > self._memory.room() else None

    def _resolve(self, name: str) -> tuple[ServedAlias, str | None]:
        """Return the alias that a name stands for, and the digest if it names a release."""
        alias = self._aliases.get(name)
        if alias and alias.all_hosted():
            return alias, None
        for found, one in self.offered():
            if name == one.model:
                return self._aliases[found], None
            if name in (one.name, f"{one.model}@{one.release}"):
                return self._aliases[found], one.digest
        here = ", ".join(alias for alias, _ in self.offered()) or "none"
        raise ModelNotFoundError(f"the model {name[:100]!r} is not here; there are: {here}")


def _nothing(_alias: str) -> None:
    """Nobody listens yet."""


def _is_ready(hosted: HostedModel | None, loadable: Loadable) -> bool:
    return hosted is not None and hosted.is_ready and hosted.loadable.digest == loadable.digest


def _is_cold(alias: ServedAlias, loadable: Loadable) -> bool:
    """Tell whether `loadable` is what a request would have loaded."""
    hosted = alias.committed
    if hosted is None or hosted.loadable.digest != loadable.digest:
        return False
    return hosted.is_cold and not (alias.is_broken or alias.is_set_aside)


def _is_replaced(committed: HostedModel, loadable: Loadable) -> bool:
    """Tell whether there is no sense in keeping it until `loadable` is in memory."""
    return committed.is_given_up or committed.loadable.digest == loadable.digest


def _candidate_of(alias: ServedAlias) -> HostedModel:
    if alias.candidate is None:
        message = f"no candidate is loaded under {alias.name!r}"
        raise ExecutionError(ReasonCode.WORKER_CRASHED, message)
    return alias.candidate
