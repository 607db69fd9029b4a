"""Has the requests of one call answered side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sprat_agent.api.models import Models
from sprat_agent.runtime.answer import Answer
from sprat_agent.runtime.wire import Piece, Request

MAX_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Step:
    """The next piece of the answer to request `index`, or None: that answer is complete."""

    index: int
    answer: Answer
    piece: Piece | None


Take: TypeAlias = Callable[[Step], Awaitable[None]]


async def answer_all(
    models: Models, name: str, requests: Sequence[Request], take: Take, *, is_batch: bool = False
) -> None:
    """Answer all requests; `take` gets the steps of each in order, one step at a time.

    Each waits for a worker of its own, so the first pieces do not wait for the last request to be
    admitted; up to `MAX_AT_ONCE` do so, so that one call cannot fill the queue. When one goes
    wrong, or `take` does, the others are stopped.

    Raises:
        AnswerError: One was not answered: the first one that went wrong.
    """
    taking = asyncio.Lock()
    turn = asyncio.Semaphore(MAX_AT_ONCE)

    async def answer_one(index: int, request: Request) -> None:
        async with turn, models.answering(name, request, is_batch=is_batch) as answer:
            async for piece in answer:
                async with taking:
                    await take(Step(index, answer, piece))
            async with taking:
                await take(Step(index, answer, None))

    try:
        async with asyncio.TaskGroup() as group:
            for index, request in enumerate(requests):
                group.create_task(answer_one(index, request), name=f"choice {index}")
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
