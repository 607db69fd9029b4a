"""One alias: which model answers, and the requests that wait for it.

What answers is the committed model. A candidate answers its share of the requests while it soaks;
it answers all of them, once it has passed its probe, where no committed model is in memory to do
so: on a device's first release, and where both do not fit the memory together.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from sprat_agent.runtime.faults import (
    AnswerError,
    ModelLoadingError,
    ModelNotFoundError,
    QueueFullError,
)
from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.runtime.limits import Limits, takes_share
from sprat_agent.runtime.process import Ask
from sprat_agent.runtime.wire import Request
from sprat_agent.sync.ports import Loadable


class Condition(StrEnum):
    """How the committed model of an alias is."""

    ABSENT = "ABSENT"  # nothing is committed yet
    READY = "READY"
    SET_ASIDE = "SET_ASIDE"  # its memory is lent to the candidate
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


@dataclass(frozen=True)
class Admission:
    """A request that a worker has begun to answer."""

    hosted: HostedModel
    ask: Ask


@dataclass(eq=False)
class _Waiting:
    request: Request
    pinned: str | None  # the digest that alone may answer
    is_for_candidate: bool
    admitted: asyncio.Future[Admission]


class ServedAlias:
    """The models under one alias and its queue; the supervisor changes it under `changing`."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.changing = asyncio.Lock()
        self.committed: HostedModel | None = None
        self.candidate: HostedModel | None = None
        self.draining: list[HostedModel] = []
        self.is_set_aside = False  # the committed model made room for the candidate
        self.is_broken = False  # the last attempt to load the committed model failed
        self.share_percent = 0
        self._limits = limits
        self._waiting: list[_Waiting] = []
        self._count = 0  # of requests since the share was set

    @property
    def memory_bytes(self) -> int:
        """What all models that are, or are about to be, in memory take."""
        held = [one for one in self.all_hosted() if not one.is_given_up]
        if self.is_set_aside and self.committed in held:
            held.remove(self.committed)
        return sum(one.memory_bytes for one in held)

    def all_hosted(self) -> list[HostedModel]:
        """Return the models under this alias, also those that only finish their requests."""
        return [one for one in (self.committed, self.candidate, *self.draining) if one]

    def clear(self) -> None:
        """Forget all models, whose workers were ended, and refuse the requests that wait."""
        self.committed = self.candidate = None
        self.draining.clear()
        self.is_set_aside = self.is_broken = False
        for one in self._waiting:
            if not one.admitted.done():
                message = f"the model {self.name!r} was unloaded"
                one.admitted.set_exception(ModelNotFoundError(message))

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
        can_answer = serving is not None and serving.is_ready
        return Status(
            alias=self.name,
            committed=self.committed.loadable if self.committed else None,
            candidate=self.candidate.loadable if self.candidate else None,
            condition=self._condition(),
            can_answer=can_answer,
            reason="" if can_answer else self._reason(),
            queued=len(self._waiting),
            worker_pid=self.committed.pid if self.committed else None,
            candidate_pid=self.candidate.pid if self.candidate else None,
        )

    async def admit(self, request: Request, *, pinned: str | None) -> Admission:
        """Wait for a free slot and send the request.

        Args:
            request: What is asked.
            pinned: The digest of the release that it names, which alone may answer it; such a
                request is no part of the candidate's share.

        Raises:
            QueueFullError: Too many wait already.
            ModelLoadingError: No model came into memory in time.
            ModelNotFoundError: The alias was unloaded meanwhile.
        """
        if len(self._waiting) >= self._limits.max_queued:
            raise QueueFullError(
                f"{len(self._waiting)} requests wait for {self.name!r} already: try again later",
                retry_after_s=1,
            )
        is_for_candidate = pinned is None and self._is_for_candidate()
        mine = _Waiting(request, pinned, is_for_candidate, _new_future())
        self._waiting.append(mine)
        self.dispatch()
        try:
            return await self._admitted(mine)
        except asyncio.CancelledError:
            if mine.admitted.done() and not mine.admitted.cancelled():
                mine.admitted.result().ask.cancel()
            raise
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)

    def dispatch(self) -> None:
        """Send waiting requests, oldest first, to models that have a free slot."""
        for one in list(self._waiting):
            hosted = self._serving(one)
            if hosted and hosted.worker and hosted.free > 0:
                self._waiting.remove(one)
                if not one.admitted.done():
                    one.admitted.set_result(Admission(hosted, hosted.worker.ask(one.request)))

    async def _admitted(self, mine: _Waiting) -> Admission:
        while True:
            await asyncio.wait([mine.admitted], timeout=self._limits.hold_s)
            if mine.admitted.done():
                return mine.admitted.result()
            # A busy model is worth waiting for, however long; an absent one is not.
            serving = self._serving(mine)
            if serving is None or not serving.is_ready:
                raise self._loading_error()

    def _loading_error(self) -> AnswerError:
        return ModelLoadingError(
            f"{self.name!r} cannot answer now: {self._reason()}", retry_after_s=5
        )

    def _is_for_candidate(self) -> bool:
        if self.candidate is None:
            return False
        self._count += 1
        return takes_share(self._count - 1, self.share_percent)

    def _serving(self, one: _Waiting) -> HostedModel | None:
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
        if self.committed.is_ready:
            return Condition.READY
        return Condition.BROKEN if self.is_broken else Condition.RESTARTING

    def _reason(self) -> str:
        candidate = self.candidate.loadable.name if self.candidate else ""
        match self._condition():
            case Condition.ABSENT if candidate:
                return f"{candidate} is being proved and nothing was committed before it"
            case Condition.ABSENT:
                return "nothing is committed"
            case Condition.SET_ASIDE:
                return f"{candidate or 'another release'} is being proved in its memory"
            case _:
                trouble = self.committed.trouble if self.committed else ""
                return trouble or "it is being loaded"


def _new_future() -> asyncio.Future[Admission]:
    return asyncio.get_running_loop().create_future()
