"""The requests that wait for one alias, and the prediction of how long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

from sprat_agent.runtime.admission import (
    Pace,
    Place,
    Work,
    admit,
    estimated_tokens,
    in_order,
)
from sprat_agent.runtime.faults import AnswerError, QueueFullError
from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.process import Ask, Counting, Inputs, Order
from sprat_agent.runtime.wire import Conversation, Done, Text, Tokens


@dataclass(frozen=True)
class Admission:
    """A request that a worker has begun to answer."""

    hosted: HostedModel
    ask: Ask


@dataclass(eq=False)
class Waiting:
    """A request in the queue."""

    request: Order
    pinned: str | None  # the digest that alone may answer
    place: Place
    admitted: asyncio.Future[Admission]
    is_for_candidate: bool = False

    def refuse(self, error: AnswerError) -> None:
        """Let it wait no longer."""
        if not self.admitted.done():
            self.admitted.set_exception(error)


class RequestQueue:
    """What waits, in the order in which it is served."""

    def __init__(self, alias: str, limits: Limits) -> None:
        self._alias = alias
        self._limits = limits
        self._waiting: list[Waiting] = []
        self._under_way: list[tuple[Ask, Work]] = []
        self._pace = Pace()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, one: Waiting) -> bool:
        return one in self._waiting

    @property
    def prompt_tokens(self) -> int:
        """About how many tokens the prompts have that wait."""
        return sum(work_of(one.request).prompt_tokens for one in self._waiting)

    def in_order(self) -> list[Waiting]:
        """Return what waits; what is served next comes first."""
        return in_order((one.place, one) for one in self._waiting)

    def enter(
        self,
        request: Order,
        *,
        pinned: str | None,
        is_batch: bool,
        slots: int,
    ) -> Waiting:
        """Put a request into the queue.

        Raises:
            QueueFullError: Too many wait already, or it would have to wait for too long.
        """
        place = Place(monotonic(), is_batch)
        self._under_way = [(ask, work) for ask, work in self._under_way if not ask.is_over]
        ahead = [work_of(one.request) for one in self._waiting if one.place.rank <= place.rank]
        full = admit(
            [*(work for _, work in self._under_way), *ahead],
            self._pace,
            slots,
            queued=len(self._waiting),
            max_queued=self._limits.max_queued,
            max_wait_s=self._limits.max_wait_s,
        )
        if full:
            raise QueueFullError(
                f"{self._alias!r} is busy: {len(self._waiting)} requests wait, and this one would"
                f" wait for about {full.wait_s:.0f} s; try again in {full.retry_after_s} s",
                retry_after_s=full.retry_after_s,
            )
        future: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        one = Waiting(request, pinned, place, future)
        self._waiting.append(one)
        return one

    def leave(self, one: Waiting) -> None:
        """Take a request out of the queue, if it is still there."""
        if one in self._waiting:
            self._waiting.remove(one)

    def begin(self, one: Waiting, hosted: HostedModel) -> None:
        """Send a request to a worker that has a free slot."""
        self.leave(one)
        if one.admitted.done():  # it was refused or cancelled meanwhile
            return
        ask = hosted.ask(one.request)
        self._under_way.append((ask, work_of(one.request)))
        one.admitted.set_result(Admission(hosted, ask))

    def note(self, done: Done) -> None:
        """Learn from an answer how fast the model is."""
        computed = done.prompt_tokens - done.cached_tokens
        self._pace = self._pace.after(
            computed, done.prefill_ms, done.completion_tokens, done.decode_ms
        )


def work_of(order: Order) -> Work:
    """Return about what a request asks of a model."""
    if isinstance(order, Inputs):
        return Work(sum(_tokens(text) for text in order.texts), most=0)
    if isinstance(order, Counting):
        return Work(0, most=0)
    match order.prompt:
        case Conversation(messages=messages):
            characters = sum(len(one.content) for one in messages)
            return Work(estimated_tokens(characters), order.max_tokens)
        case prompt:
            return Work(_tokens(prompt), order.max_tokens)


def _tokens(prompt: Text | Tokens) -> int:
    if isinstance(prompt, Tokens):
        return len(prompt.tokens)
    return estimated_tokens(len(prompt.text))
