"""The one flow of requests for vectors, in any dialect."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic_ns
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from sprat_agent.api import faults, names, priority, replies
from sprat_agent.api.answering import unless_gone
from sprat_agent.api.body import read_body
from sprat_agent.api.dialect import Json
from sprat_agent.api.faults import invalid
from sprat_agent.api.models import Models
from sprat_agent.runtime.faults import AnswerError
from sprat_agent.runtime.wire import Text, Tokens
from sprat_agent.sync.ports import Loadable

# Texts that a worker gets at once: a bound on its answer, and others get their turn in between.
_BATCH: Final = 64


@dataclass(frozen=True)
class Made:
    """The vectors of all texts."""

    vectors: tuple[bytes, ...]  # little-endian 32-bit floats
    prompt_tokens: int
    took_ns: int


@dataclass(frozen=True)
class Call:
    """What an application asks, understood; without texts, only that the model is there."""

    model: str
    texts: tuple[Text | Tokens, ...]
    is_truncated: bool  # what is too long is cut, not refused
    body: Callable[[Made], Json]


Read: TypeAlias = Callable[[bytes], Call]  # raises ApiError


class Embedding:
    """An endpoint, an ASGI application; if its client goes away, the work stops."""

    def __init__(self, models: Models, read: Read) -> None:
        """Ask the models for what `read` makes of a body."""
        self._models = models
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            ApiError: Instead of an answer.
        """
        request = Request(scope, receive)
        is_batch = priority.is_batch(request.headers)
        call = self._read(await read_body(request))
        name, adapter = names.split(call.model)
        if adapter:
            message = f"embeddings know no adapters: ask for {name[:100]!r} without its tag"
            raise invalid(message, param="model")

        async def answer() -> None:
            try:
                loadable, made = await self._make(name, call, is_batch=is_batch)
            except AnswerError as error:
                raise faults.from_answer(error) from error
            response = replies.json(call.body(made), headers=replies.of_model(loadable))
            await response(scope, receive, send)

        await unless_gone(receive, answer())

    async def _make(self, name: str, call: Call, *, is_batch: bool) -> tuple[Loadable, Made]:
        began = monotonic_ns()
        loadable = self._models.find(name)
        vectors: list[bytes] = []
        tokens = 0
        for at in range(0, len(call.texts), _BATCH):
            batch = call.texts[at : at + _BATCH]
            made = await self._models.embedding(
                name, batch, is_truncated=call.is_truncated, is_batch=is_batch
            )
            loadable = made.loadable
            vectors += made.vectors
            tokens += made.prompt_tokens
        return loadable, Made(tuple(vectors), tokens, monotonic_ns() - began)


def floats(vector: bytes) -> list[float]:
    """Return a vector's numbers."""
    return [value for (value,) in struct.iter_unpack("<f", vector)]
