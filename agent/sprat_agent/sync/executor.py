"""Runs executions: asks the plan what is next, persists, acts, persists, until nothing is left.

What is held by a window sleeps until that opens. Whatever the clock does meanwhile, it is asked
again before anything begins: a sleep that ends too early costs nothing, and one that ends too late,
since the clock was put forward or the device slept, is over after `NAP_S` at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias, assert_never

from sprat_proto.states import ReasonCode, Step

from sprat_agent.audit.intents import Effect
from sprat_agent.errors import StateError
from sprat_agent.sync import holds, phases, plan
from sprat_agent.sync.apply import Effects
from sprat_agent.sync.freshness import Time
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.phases import Event
from sprat_agent.sync.plan import (
    Advance,
    End,
    Execution,
    Forget,
    Hold,
    Over,
    Queue,
    Reason,
    Rest,
)
from sprat_agent.sync.ports import ExecutionError, RejectedError, RetryLaterError, Workers

_LOG = logging.getLogger(__name__)

# Execution id, phase, and "entered" (just persisted) or "done" (effect over, not yet persisted).
OnTransition: TypeAlias = Callable[[str, str, str], None]

_BASE_S: Final = 1.0
_CEILING_S: Final = 300.0
# The longest sleep before the clock is looked at again, and the one while it is not known.
NAP_S: Final = 600.0
UNKNOWN_NAP_S: Final = 60.0
# How often a download that goes on is told of: some times within what a controller waits for it.
PROGRESS_S: Final = 300.0


@dataclass(frozen=True)
class _Outcome:
    event: Event | None  # None: it pauses, and is in the same phase
    reason: Reason | None = None


_PAUSES: Final = _Outcome(None)


class Executor:
    """Brings the device to its assignment, one execution at a time."""

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        effects: Effects,
        workers: Workers,
        *,
        time: Callable[[], Time],
        uniform: Callable[[float, float], float],
        on_transition: OnTransition,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        fetched: Callable[[], int] | None = None,
    ) -> None:
        """Run what the ledger says.

        Args:
            ledger: What is assigned and how far it came.
            outbox: Held while a commit takes effect.
            effects: What the phases do.
            workers: For aliases that are assigned no longer.
            time: What time it is, for windows.
            uniform: As `random.uniform`, for the delays between attempts.
            on_transition: Told of every phase; tests end the process there.
            sleep: As `asyncio.sleep`, until a window opens or closes.
            fetched: Bytes that came in this process so far; None: no progress is told.
        """
        self._ledger = ledger
        self._outbox = outbox
        self._effects = effects
        self._workers = workers
        self._uniform = uniform
        self._on_transition = on_transition
        self._time = time
        self._sleep = sleep
        self._fetched = fetched
        # Let into their activate window by this process, and not paused since.
        self._through: set[str] = set()
        # By execution, in which phase and until when it was told to wait.
        self._told: dict[str, tuple[phases.Phase, datetime | None]] = {}
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()
        self._entered_here: set[str] = set()
        self.on_commit: Callable[[], None] = _nothing  # called when another model answers
        # Called before anyone is told that a variant does not fit: the controller chooses the next
        # one by what it knows of this device then.
        self.on_rejected: Callable[[], None] = _nothing

    def wake(self) -> None:
        """Look again what is to be done: there is a new assignment."""
        self._woken.set()

    def hurry(self) -> None:
        """Try again now what waits for another attempt: the controller is back."""
        self._hurried.set()

    async def run(self) -> None:
        """Do what is to be done, for ever."""
        failures = 0
        while True:
            self._woken.clear()
            is_resting = False
            try:
                is_resting = await self._do_next()
                failures = 0
            except StateError as error:
                # The disk takes nothing now: nothing was begun that was not persisted.
                failures += 1
                _LOG.error("executions wait: %s", error)
                await self._pause(failures)
            except Exception:  # noqa: BLE001 - a bug may cost the execution, never the device
                failures += 1
                _LOG.exception("executions wait")
                await self._pause(failures)
            if is_resting:
                await self._rest()

    async def _rest(self) -> None:
        """Wait until somebody wakes it, or the first window opens."""
        opening = self._alarm(self._openings(self._time()))
        waking = asyncio.create_task(self._woken.wait())
        waiting = {waking, opening} if opening else {waking}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    def _next(self) -> plan.Action:
        ledger, time = self._ledger, self._time()
        return plan.next_action(
            ledger.assignment(),
            ledger.committed(),
            ledger.executions(),
            lambda execution: self._judge(execution, time),
        )

    def _judge(self, execution: Execution, time: Time) -> Hold | Over | None:
        return holds.judge(
            execution,
            time,
            was_proved=self._ledger.was_proved(execution.wanted.digest),
            is_through=execution.execution_id in self._through,
        )

    def _held(self, time: Time) -> list[tuple[Execution, Hold]]:
        found: list[tuple[Execution, Hold]] = []
        for one in self._ledger.executions():
            if not phases.is_final(one.phase):
                hold = self._judge(one, time)
                found += [(one, hold)] if isinstance(hold, Hold) else []
        return found

    def _openings(self, time: Time) -> list[float]:
        """Return after how many seconds to look again at what is held."""
        return [_nap(hold.until, time) for _, hold in self._held(time)]

    def _alarm(self, seconds: list[float]) -> asyncio.Task[None] | None:
        """Return what ends after the least of these seconds; None if there are none."""
        if not seconds:
            return None
        return asyncio.create_task(self._sleeping(min(seconds)), name="window")

    async def _sleeping(self, seconds: float) -> None:
        await self._sleep(seconds)

    def _tell_waits(self) -> None:
        """Tell once of each wait why it is."""
        for execution, hold in self._held(self._time()):
            waits = execution.phase, hold.until
            if self._told.get(execution.execution_id) != waits:
                self._ledger.waits(execution, hold.reason)
                self._told[execution.execution_id] = waits

    async def _do_next(self) -> bool:
        """Do one thing; return whether there was nothing to do."""
        self._tell_waits()
        action = self._next()
        match action:
            case Queue(wanted, context):
                self._entered(self._ledger.queue(wanted, context))
            case End(execution, Event.SUPERSEDED):
                await self._supersede(execution)
            case End(execution, event, reason):
                if event is Event.FAILED and phases.is_under_way(execution.phase):
                    await self._effects.undo(execution, frozenset())
                self._entered(self._ledger.step(execution, event, reason))
            case Forget(alias):
                await self._forget(alias)
            case Advance(execution):
                await self._advance(execution)
            case Rest():
                return True
            case _:
                assert_never(action)
        return False

    async def _advance(self, execution: Execution) -> None:
        if (
            phases.is_under_way(execution.phase)
            and execution.execution_id not in self._entered_here
        ):
            self._ledger.resumed(execution)
            self._entered_here.add(execution.execution_id)
        if execution.phase in holds.ACTIVATE:
            self._through.add(execution.execution_id)
        outcome = await self._settle(execution)
        if outcome.event is None:
            return
        if outcome.event is Event.SUPERSEDED:
            await self._supersede(execution)
            return
        self._on_transition(execution.execution_id, execution.phase, "done")
        if execution.phase is Step.COMMITTING and outcome.event is Event.DONE:
            await self._commit(execution)
            return
        if outcome.reason:
            _LOG.warning(
                "%s of %s: %s", execution.phase, execution.execution_id, outcome.reason.message
            )
        if outcome.event is Event.REJECTED:
            await self._reject(execution, outcome.reason)
            return
        self._entered(self._ledger.step(execution, outcome.event, outcome.reason))

    async def _settle(self, execution: Execution) -> _Outcome:
        """Return how the phase ended, or that the execution was superseded or pauses meanwhile."""
        effect = asyncio.create_task(
            self._attempt(execution), name=f"{execution.phase} {execution.execution_id}"
        )
        try:
            while True:
                self._woken.clear()
                match self._next():
                    case End(ended, Event.SUPERSEDED) if _is_same(ended, execution):
                        return _Outcome(Event.SUPERSEDED)
                    case Advance(one) if _is_same(one, execution):
                        pass
                    case _ if execution.phase is Step.DOWNLOADING:
                        return _PAUSES  # what it has fetched is kept
                    case _:
                        pass
                await self._first_of(effect, execution)
                if effect.done():
                    return effect.result()
        finally:
            effect.cancel()
            await asyncio.wait({effect})
            if not effect.cancelled():
                effect.exception()  # said already, or of no interest any more

    async def _first_of(self, effect: asyncio.Task[_Outcome], execution: Execution) -> None:
        """Wait until the effect is over, or there is something to look at."""
        waiting: set[asyncio.Task[Any]] = {asyncio.create_task(self._woken.wait())}
        if execution.phase is Step.DOWNLOADING:
            time = self._time()
            closes = holds.pauses_at(execution, time)
            seconds = [_nap(closes, time)] if closes else []
            alarm = self._alarm(seconds + self._openings(time))
            waiting |= {alarm} if alarm else set()
            telling = self._telling(execution)
            waiting |= {telling} if telling else set()
        try:
            await asyncio.wait({effect, *waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    def _telling(self, execution: Execution) -> asyncio.Task[None] | None:
        """Return what tells of a download's progress in a while, and ends then."""
        if self._fetched is None:
            return None
        return asyncio.create_task(self._tell_progress(execution, self._fetched), name="progress")

    async def _tell_progress(self, execution: Execution, fetched: Callable[[], int]) -> None:
        """Tell that a download goes on, if bytes came meanwhile; what hangs is not told of."""
        before = fetched()
        await self._sleep(PROGRESS_S)
        if fetched() > before:
            try:
                self._ledger.goes_on(execution)
            except StateError as error:
                _LOG.warning("the progress of %s is not told: %s", execution.execution_id, error)

    async def _attempt(self, execution: Execution) -> _Outcome:
        """Carry out the phase, again and again while something passing stands in the way."""
        failures = 0
        while True:
            try:
                await self._effects.carry_out(execution)
                return _Outcome(Event.DONE)
            except RetryLaterError as error:
                why = str(error)
            except ExecutionError as error:
                reason = _reason(error)
                if isinstance(error, RejectedError):
                    return _Outcome(Event.REJECTED, reason)
                if phases.takes(execution.phase, Event.FAILED):
                    return await self._failed(execution, reason)
                why = error.message
            except StateError:
                raise
            except Exception as error:  # noqa: BLE001 - a bug may cost the execution, never the device
                _LOG.exception("%s of %s", execution.phase, execution.execution_id)
                reason = Reason(ReasonCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
                if phases.takes(execution.phase, Event.FAILED):
                    return await self._failed(execution, reason)
                why = reason.message
            failures += 1
            _LOG.info("%s of %s waits: %s", execution.phase, execution.execution_id, why)
            await self._pause(failures)
            if not self._is_let_in_again(execution):
                return _PAUSES

    def _is_let_in_again(self, execution: Execution) -> bool:
        """Tell whether another attempt may begin now, which must have a window of its own."""
        self._through.discard(execution.execution_id)
        if self._judge(execution, self._time()) is not None:
            return False
        if execution.phase in holds.ACTIVATE:
            self._through.add(execution.execution_id)
        return True

    async def _failed(self, execution: Execution, reason: Reason) -> _Outcome:
        """Leave nothing half-written behind, before anyone is told; rolling back does it itself."""
        following = phases.after(execution.phase, Event.FAILED)
        if phases.is_final(following):
            await self._effects.undo(execution, frozenset())
        return _Outcome(Event.FAILED, reason)

    async def _reject(self, execution: Execution, reason: Reason | None) -> None:
        """End what does not fit; what it had fetched is gone before anyone is told.

        It ends first: judged again without what was fetched, it would fail for another reason.
        """
        with self._outbox.held():
            self._entered(self._ledger.step(execution, Event.REJECTED, reason))
            await self._effects.undo(execution, frozenset())
            self.on_rejected()

    async def _supersede(self, execution: Execution) -> None:
        assignment = self._ledger.assignment()
        models = assignment.models if assignment else []
        wanted = frozenset(one.digest for one in models)
        if phases.is_under_way(execution.phase):
            await self._effects.undo(execution, wanted)
        reason = Reason(ReasonCode.SUPERSEDED, "a newer assignment wants something else")
        self._entered(self._ledger.step(execution, Event.SUPERSEDED, reason))

    async def _commit(self, execution: Execution) -> None:
        """Move the alias's pointer; what it stands for answers before the success is told."""
        try:
            installed = await self._effects.installed(execution)
        except ExecutionError as error:
            self._entered(self._ledger.step(execution, Event.FAILED, _reason(error)))
            return
        alias, digest = execution.wanted.alias, execution.wanted.digest
        with self._outbox.held():
            try:
                with self._ledger.intents.around(
                    Effect.ACTIVATION, f"alias/{alias}", self._ledger.stands_for(alias), digest
                ):
                    following = self._ledger.commit(execution, installed.manifest)
                    self._entered(following)
                    await self._effects.promote(execution)
            except ExecutionError as error:
                # Committed all the same; the heartbeat says that it does not run.
                _LOG.warning("%s: %s", installed.loadable.name, error.message)
            self.on_commit()
        await self._effects.clean()

    async def _forget(self, alias: str) -> None:
        with self._ledger.intents.around(
            Effect.REMOVAL, f"alias/{alias}", self._ledger.stands_for(alias), ""
        ):
            self._ledger.forget(alias)
            await self._workers.unload(alias)
        await self._effects.clean()
        self.on_commit()

    def _entered(self, execution: Execution) -> None:
        self._entered_here.add(execution.execution_id)
        self._on_transition(execution.execution_id, execution.phase, "entered")

    async def _pause(self, failures: int) -> None:
        """Wait with full jitter, in seconds up to 1, 2, 4 ... 300; `hurry` ends it early."""
        ceiling = min(_CEILING_S, _BASE_S * 2 ** min(failures - 1, 9))
        self._hurried.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._uniform(0.0, ceiling)):
                await self._hurried.wait()


def _reason(error: ExecutionError) -> Reason:
    return Reason(error.code, error.message, error.expected, error.found)


def _is_same(one: Execution, other: Execution) -> bool:
    return one.execution_id == other.execution_id


def _nap(until: datetime | None, time: Time) -> float:
    """Return after how many seconds to look at the clock again."""
    if until is None or time.known is None:
        return UNKNOWN_NAP_S
    return min(NAP_S, max(0.0, (until - time.known).total_seconds()))


def _nothing() -> None:
    """Nobody listens yet."""
