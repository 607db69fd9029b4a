"""Who may be in memory: evicts, drains and loads as `budget` decides, oldest request first.

A committed model that is not in memory is *cold*: a request for it is a demand for its memory, and
so is a candidate that is to be proved. Demands are met in the order of their ranks. While a busy
model is drained for a demand, it takes no request of a later rank, so that every demand is met in
the end, and two models that do not fit together take turns.

What nobody may evict at the moment (a candidate, a replaced model that finishes its requests, what
an execution changes) lets a demand wait; a later one may be met meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic

from sprat_proto.fit import MIB
from sprat_proto.states import ReasonCode

from sprat_agent.runtime.admission import Place, Rank
from sprat_agent.runtime.background import Background
from sprat_agent.runtime.budget import Drain, Evict, Held, Load, Refuse, decide
from sprat_agent.runtime.faults import InsufficientMemoryError
from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.runtime.served import ServedAlias
from sprat_agent.runtime.spare import MOST, Spare, copy_bytes, extra_slots
from sprat_agent.sync.ports import ExecutionError


@dataclass(eq=False)
class _Demand:
    """Something wants to be in memory."""

    alias: ServedAlias
    need_bytes: int  # beside what is held
    whole_bytes: int  # with what it takes the place of
    rank: Rank
    grant: Callable[[], None]
    refuse: Callable[[str], None]  # it can never fit: one sentence
    cause: str  # for which others are evicted, see `ServedAlias.evictions`


class Memory:
    """The budget that all models share."""

    def __init__(
        self,
        budget_bytes: int,
        aliases: Mapping[str, ServedAlias],
        *,
        load: Callable[[ServedAlias], None],
        end: Callable[[HostedModel], Coroutine[None, None, None]],
    ) -> None:
        """Hold nothing yet.

        Args:
            budget_bytes: What all models may take together.
            aliases: All of them; the supervisor adds to it.
            load: Begins to load the alias's cold committed model, whose memory is granted.
            end: Ends a model's worker and what keeps it.
        """
        self._budget_bytes = budget_bytes
        self._aliases = aliases
        self._load = load
        self._end = end
        self._claims: list[_Demand] = []
        self._evictions = Background()
        self._leaving: set[HostedModel] = set()
        self._is_poked = False
        self._is_closed = False

    def room(self) -> int:
        """Return how many bytes of the budget are not spoken for."""
        return self._budget_bytes - sum(one.memory_bytes for one in self._aliases.values())

    def spare(self, hosted: HostedModel) -> Spare:
        """Return what a model gets of what is free.

        Free is what is left when all others are in memory too, and a new release beside this one.
        """
        cold = sum(
            one.least_bytes
            for alias in self._aliases.values()
            for one in alias.all_hosted()
            if one is not hosted and not one.reserved_bytes and not one.is_given_up
        )
        free = self.room() - cold - hosted.least_bytes
        serving = hosted.loadable.serving
        most = MOST - serving.slots + 1 if serving.may_have_more else 1
        slots = extra_slots(free, hosted.slot_bytes, most)
        copies = copy_bytes(free - slots * hosted.slot_bytes, hosted.longest_prefix_bytes)
        return Spare(slots, copies)

    def poke(self) -> None:
        """Look soon whether a demand can be met: something changed."""
        if not self._is_poked and not self._is_closed:
            self._is_poked = True
            asyncio.get_running_loop().call_soon(self._arrange)

    def refusal(self, alias: ServedAlias, whole_bytes: int) -> str:
        """Return why so much under an alias fits in no way, as one sentence; empty: it may fit."""
        pinned = [
            one
            for other in self._aliases.values()
            if other is not alias and (one := other.committed) and one.is_pinned
            if one.reserved_bytes
        ]
        if whole_bytes + sum(one.reserved_bytes for one in pinned) <= self._budget_bytes:
            return ""
        holders = ", ".join(f"{one.loadable.name} {_mib(one.reserved_bytes)}" for one in pinned)
        beside = f" beside what is pinned in it ({holders})" if holders else ""
        return (
            f"{alias.name!r} needs {_mib(whole_bytes)} of memory and does not fit the memory"
            f" budget of {_mib(self._budget_bytes)}{beside}"
        )

    async def claim(
        self,
        alias: ServedAlias,
        needs: tuple[int, int],
        grant: Callable[[], None],
        timeout_s: float,
    ) -> None:
        """Have others make room; `grant` is called when there is, and speaks for the memory.

        Args:
            alias: Whose model it is; the caller holds its lock.
            needs: Bytes beside what is held, and with what it takes the place of.
            grant: Reserves the memory.
            timeout_s: How long to wait for others.

        Raises:
            ExecutionError: INSUFFICIENT_MEMORY: it does not fit, or the others did not give way.
        """
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take() -> None:
            self._claims.remove(demand)
            if not granted.done():
                grant()
                granted.set_result(None)

        def refuse(message: str) -> None:
            self._claims.remove(demand)
            if not granted.done():
                granted.set_exception(self.error(message, needs[1]))

        demand = _Demand(alias, *needs, Place(monotonic()).rank, take, refuse, "release")
        self._claims.append(demand)
        self.poke()
        try:
            async with asyncio.timeout(timeout_s):
                await granted
        except TimeoutError as error:
            message = (
                f"{alias.name!r} does not fit the memory budget of {_mib(self._budget_bytes)}"
                " beside the other models of this device, which did not give way in"
                f" {timeout_s:.0f} s"
            )
            raise self.error(message, needs[1]) from error
        finally:
            if demand in self._claims:
                self._claims.remove(demand)
            self.poke()

    async def close(self) -> None:
        """Arrange nothing any more."""
        self._is_closed = True
        for demand in list(self._claims):
            demand.refuse("no model is to be loaded any more")
        await self._evictions.wait(list(self._leaving))

    def error(self, message: str, needed: int) -> ExecutionError:
        """Return why a model that needs so many bytes is not loaded."""
        room = max(self.room(), 0)
        return ExecutionError(
            ReasonCode.INSUFFICIENT_MEMORY,
            message,
            expected=f"{room} bytes",
            found=f"{needed} bytes",
        )

    def _arrange(self) -> None:
        """Meet the demands that can be met now, oldest first."""
        self._is_poked = False
        if self._is_closed or self._leaving:
            return  # what leaves is decided for a demand already: poked again when it is gone
        closed: dict[str, Rank] = {}
        for demand in sorted(self._demands(), key=lambda one: one.rank):
            if message := self.refusal(demand.alias, demand.whole_bytes):
                demand.refuse(message)
                continue
            match decide(self._held(demand), demand.need_bytes, self._budget_bytes):
                case Load():
                    demand.grant()
                case Evict(names):
                    for name in names:
                        self._evict(self._aliases[name], demand.cause)
                    break
                case Drain(busy, idle):
                    closed = dict.fromkeys((*busy, *idle), demand.rank)
                    break
                case Refuse():
                    pass  # for now
        for name, alias in self._aliases.items():
            alias.close_after(closed.get(name))

    def _demands(self) -> Iterator[_Demand]:
        yield from self._claims
        for alias in self._aliases.values():
            cold, rank = alias.committed, alias.cold_rank()
            if cold and rank and not alias.changing.locked():
                needed = cold.memory_bytes
                grant = partial(self._load, alias)
                refuse = partial(_refuse_waiting, alias)
                yield _Demand(alias, needed, needed, rank, grant, refuse, "request")

    def _held(self, demand: _Demand) -> list[Held]:
        """Return everything that memory is spoken for; what may be evicted has its alias's name."""
        held: list[Held] = []
        for name, alias in self._aliases.items():
            committed = alias.committed
            may_go = committed and not committed.is_pinned and not alias.changing.locked()
            given = (
                committed.reserved_bytes if committed and may_go and not alias.is_set_aside else 0
            )
            others = alias.memory_bytes - given
            if others:
                held.append(Held(f"{name} (held)", others, is_pinned=True))
            if committed and given:
                is_busy = committed.is_busy or alias.has_waiting_before(demand.rank)
                held.append(Held(name, given, is_busy=is_busy, last_used=committed.last_used))
        return held

    def _evict(self, alias: ServedAlias, cause: str) -> None:
        hosted = alias.committed
        if hosted is None:
            raise RuntimeError(f"nothing under {alias.name!r} can be evicted")
        hosted.is_cold = True  # from now on it takes no request
        alias.evictions[cause] += 1
        self._leaving.add(hosted)
        self._evictions.run(hosted, self._leave(hosted))

    async def _leave(self, hosted: HostedModel) -> None:
        try:
            await self._end(hosted)
        finally:
            self._leaving.discard(hosted)
            self.poke()


def _refuse_waiting(alias: ServedAlias, message: str) -> None:
    alias.refuse_cold(InsufficientMemoryError(message))


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
