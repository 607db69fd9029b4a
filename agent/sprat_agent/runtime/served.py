"""One alias: which model answers, and the requests that wait for it.

What answers is the committed model. A candidate answers its share of the requests while it soaks;
it answers all of them, once it has passed its probe, where no committed model is in memory to do
so: on a device's first release, and where both do not fit the memory together.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sprat_proto.fit import Need

from sprat_agent.runtime.admission import Rank, retry_after_s
from sprat_agent.runtime.faults import AnswerError, ModelLoadingError, ModelNotFoundError
from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.runtime.limits import Limits, takes_share
from sprat_agent.runtime.process import Counting, Order
from sprat_agent.runtime.queue import Admission, RequestQueue, Waiting
from sprat_agent.runtime.wire import Done, Figures, Request
from sprat_agent.sync.ports import Loadable

_NO_FIGURES: Final = Figures()
_FIRST_LOAD_S: Final = 5.0  # what a load may take, before one was measured


class Condition(StrEnum):
    """How the committed model of an alias is."""

    ABSENT = "ABSENT"  # nothing is committed yet
    READY = "READY"
    SET_ASIDE = "SET_ASIDE"  # its memory is lent to the candidate
    COLD = "COLD"  # not in memory; loaded when a request needs it
    RESTARTING = "RESTARTING"
    BROKEN = "BROKEN"  # the last attempt to load it failed


@dataclass(frozen=True)
class Status:
    """How an alias is doing, for the local API."""

    alias: str
    committed: Loadable | None
    candidate: Loadable | None
    condition: Condition
    can_answer: bool
    reason: str  # why it cannot, one sentence
    queued: int
    worker_pid: int | None
    candidate_pid: int | None
    memory_bytes: int = 0  # of all its models that are in memory now
    slots: int = 0  # how many requests the committed model answers at once; 0: not in memory
    busy: int = 0  # how many of these it answers now
    figures: Figures = _NO_FIGURES  # what the committed model's engine did, at the last ping
    queued_prompt_tokens: int = 0  # an estimate: the worker counts them when it begins
    needs: tuple[Need, ...] = ()  # of each of its models that is in memory now
    evictions: tuple[tuple[str, int], ...] = ()  # how often, by what for: `ServedAlias.evictions`


class ServedAlias:
    """The models under one alias and its queue; the supervisor changes it under `changing`."""

    def __init__(self, name: str, limits: Limits, on_change: Callable[[], None]) -> None:
        self.name = name
        self.changing = asyncio.Lock()
        self.committed: HostedModel | None = None
        self.candidate: HostedModel | None = None
        self.draining: list[HostedModel] = []
        self.is_set_aside = False  # the committed model made room for the candidate
        self.is_broken = False  # the last attempt to load the committed model failed
        self.share_percent = 0
        # How often its committed model was evicted since the agent started: for a `request` to
        # another model, or for a `release` that was to come into memory.
        self.evictions: Counter[str] = Counter()
        self._limits = limits
        self._on_change = on_change  # called when memory may be wanted, or had, that was not before
        self._queue = RequestQueue(name, limits)
        self._closed_after: Rank | None = None
        self._count = 0  # of requests since the share was set

    @property
    def memory_bytes(self) -> int:
        """What all models that are, or are about to be, in memory take."""
        total = sum(one.reserved_bytes for one in self.all_hosted())
        committed = self.committed
        if committed and self.is_set_aside and not committed.is_in_memory:
            total -= committed.reserved_bytes
        return total

    def all_hosted(self) -> list[HostedModel]:
        """Return the models under this alias, also those that only finish their requests."""
        return [one for one in (self.committed, self.candidate, *self.draining) if one]

    def clear(self) -> None:
        """Forget all models, whose workers were ended, and refuse the requests that wait."""
        self.committed = self.candidate = None
        self.draining.clear()
        self.is_set_aside = self.is_broken = False
        for one in self._queue.in_order():
            one.refuse(ModelNotFoundError(f"the model {self.name!r} was unloaded"))

    def set_share(self, percent: int) -> None:
        """Give the candidate this share of the requests from now on."""
        self.share_percent = percent
        self._count = 0

    def offered(self) -> Loadable | None:
        """Return the model that this alias stands for: the committed one, or its only one."""
        if self.committed:
            return self.committed.loadable
        proved = self.candidate and self.candidate.is_proved
        return self.candidate.loadable if self.candidate and proved else None

    def status(self) -> Status:
        """Return how it is doing."""
        serving = self._turn(is_for_candidate=False)
        is_here = serving is not None and serving.is_ready
        can_answer = is_here or self._condition() is Condition.COLD
        committed = self.committed
        worker = committed.worker if committed else None
        in_memory = [one for one in self.all_hosted() if one.is_in_memory]
        return Status(
            alias=self.name,
            committed=self.committed.loadable if self.committed else None,
            candidate=self.candidate.loadable if self.candidate else None,
            condition=self._condition(),
            can_answer=can_answer,
            reason="" if can_answer else self._reason(),
            queued=len(self._queue),
            worker_pid=committed.pid if committed else None,
            candidate_pid=self.candidate.pid if self.candidate else None,
            memory_bytes=sum(one.memory_bytes for one in in_memory),
            slots=committed.slots if committed else 0,
            busy=committed.slots - committed.free if committed else 0,
            figures=worker.figures if worker else _NO_FIGURES,
            queued_prompt_tokens=self._queue.prompt_tokens,
            needs=tuple(one.need for one in in_memory),
            evictions=tuple(sorted(self.evictions.items())),
        )

    async def admit(
        self, request: Order, *, pinned: str | None, is_batch: bool = False
    ) -> Admission:
        """Wait for a free slot and send the request.

        Args:
            request: What is asked.
            pinned: The digest of the release that it names, which alone may answer it; such a
                request is no part of the candidate's share.
            is_batch: It yields to requests that somebody waits for.

        Raises:
            QueueFullError: Too many wait already.
            ModelLoadingError: No model came into memory in time.
            InsufficientMemoryError: The model cannot come into memory.
            ModelNotFoundError: The alias was unloaded meanwhile.
        """
        mine = self._queue.enter(
            request,
            pinned=pinned,
            is_batch=is_batch,
            slots=self.committed.slots if self.committed else 0,
        )
        mine.is_for_candidate = pinned is None and self._is_for_candidate(request)
        self.dispatch()
        try:
            return await self._admitted(mine)
        except asyncio.CancelledError:
            if mine.admitted.done() and not mine.admitted.cancelled():
                mine.admitted.result().ask.cancel()
            raise
        finally:
            if mine in self._queue:
                self._queue.leave(mine)
                self._on_change()  # nobody may want the memory any more that was to be had for it

    def dispatch(self) -> None:
        """Send waiting requests, in their order, to models that have a free slot."""
        for one in self._queue.in_order():
            hosted = self._serving(one)
            if hosted and _has_room(hosted, one.request) and not self._is_closed_to(one, hosted):
                self._queue.begin(one, hosted)
        self._on_change()

    def poke(self) -> None:
        """Say that memory may be wanted, or had, that was not before."""
        self._on_change()

    def note(self, done: Done) -> None:
        """Learn from an answer how fast this alias is."""
        self._queue.note(done)

    # What the memory asks and says

    def cold_rank(self) -> Rank | None:
        """Return the rank of the first request that the cold committed model is needed for."""
        if self.committed is None or not self.committed.is_cold:
            return None
        return next(iter(self._ranks()), None)

    def has_waiting_before(self, rank: Rank) -> bool:
        """Tell whether the committed model is to answer a request of a lower rank first."""
        return any(mine < rank for mine in self._ranks())

    def close_after(self, rank: Rank | None) -> None:
        """Have the committed model take no request of a rank above this one; None: it takes all."""
        if self._closed_after != rank:
            self._closed_after = rank
            self.dispatch()

    def refuse_cold(self, error: AnswerError) -> None:
        """Refuse all requests that the cold committed model is needed for."""
        for one in self._queue.in_order():
            if self._serving(one) is self.committed:
                one.refuse(error)

    def _ranks(self) -> list[Rank]:
        """Return the ranks of those who wait for the committed model, lowest first."""
        waiting = self._queue.in_order()
        return [
            one.place.rank
            for one in waiting
            if self._serving(one) is self.committed and not one.admitted.done()
        ]

    def _is_closed_to(self, one: Waiting, hosted: HostedModel) -> bool:
        if hosted is not self.committed:
            return False
        closed_after = self._closed_after
        return hosted.is_cold or (closed_after is not None and one.place.rank > closed_after)

    async def _admitted(self, mine: Waiting) -> Admission:
        while True:
            await asyncio.wait([mine.admitted], timeout=self._limits.hold_s)
            if mine.admitted.done():
                return mine.admitted.result()
            # A busy model is worth waiting for, however long; an absent one is not.
            serving = self._serving(mine)
            if serving is None or not serving.is_ready:
                raise self._loading_error()

    def _loading_error(self) -> AnswerError:
        took_ms = self.committed.load_ms if self.committed else 0.0
        return ModelLoadingError(
            f"{self.name!r} cannot answer now: {self._reason()}",
            retry_after_s=retry_after_s(took_ms / 1000 or _FIRST_LOAD_S),
        )

    def _is_for_candidate(self, order: Order) -> bool:
        if self.candidate is None:
            return False
        adapter = order.adapter if isinstance(order, Request) else ""
        if adapter and adapter not in self.candidate.loadable.adapter_names:
            return False  # what answers goes on answering until the candidate is kept
        self._count += 1
        return takes_share(self._count - 1, self.share_percent)

    def _serving(self, one: Waiting) -> HostedModel | None:
        """Return the model that may answer a request, ready or not."""
        hosted = self._turn(is_for_candidate=one.is_for_candidate)
        if hosted and one.pinned not in {None, hosted.loadable.digest}:
            return None
        return hosted

    def _turn(self, *, is_for_candidate: bool) -> HostedModel | None:
        """Return the model whose turn it is, ready or not."""
        candidate = self.candidate
        if candidate and is_for_candidate and candidate.is_ready:
            return candidate
        if self.committed and not self.is_set_aside:
            return self.committed
        return candidate if candidate and candidate.is_proved else None

    def _condition(self) -> Condition:
        if self.committed is None:
            return Condition.ABSENT
        if self.is_set_aside:
            return Condition.SET_ASIDE
        if self.committed.is_ready and not self.committed.is_cold:
            return Condition.READY
        if self.is_broken:
            return Condition.BROKEN
        return Condition.COLD if self.committed.is_cold else Condition.RESTARTING

    def _reason(self) -> str:
        candidate = self.candidate.loadable.name if self.candidate else ""
        match self._condition():
            case Condition.ABSENT if candidate:
                return f"{candidate} is being proved and nothing was committed before it"
            case Condition.ABSENT:
                return "nothing is committed"
            case Condition.SET_ASIDE:
                return f"{candidate or 'another release'} is being proved in its memory"
            case Condition.COLD:
                return "it waits for memory that other models of this device use"
            case _:
                trouble = self.committed.trouble if self.committed else ""
                return trouble or "it is being loaded"


def _has_room(hosted: HostedModel, order: Order) -> bool:
    """Tell whether a model can be given the order now."""
    return hosted.free > 0 or (hosted.is_ready and isinstance(order, Counting))
