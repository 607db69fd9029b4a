"""POST /api/embed, and POST /api/embeddings as older clients know it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic_ns
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from sprat_agent.api import faults, names, replies
from sprat_agent.api.answering import unless_gone
from sprat_agent.api.body import decode, read_body
from sprat_agent.api.dialect import Json
from sprat_agent.api.faults import unsupported
from sprat_agent.api.models import Models
from sprat_agent.runtime.faults import AnswerError
from sprat_agent.runtime.wire import Text

# Texts that a worker gets at once: others get their turn in between.
_BATCH: Final = 64
_Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


@dataclass(frozen=True)
class Made:
    """The vectors of all texts."""

    vectors: tuple[bytes, ...]  # little-endian 32-bit floats
    prompt_tokens: int
    took_ns: int


@dataclass(frozen=True)
class Call:
    """What an application asks, understood; without texts, that the model is there."""

    model: str
    texts: tuple[str, ...]
    is_truncated: bool
    body: Callable[[Made], Json]


def routes(models: Models) -> list[BaseRoute]:
    """Return the endpoints."""
    return [
        Route("/api/embed", _Endpoint(models, read), methods=["POST"]),
        Route("/api/embeddings", _Endpoint(models, read_legacy), methods=["POST"]),
    ]


class _Embed(Struct, forbid_unknown_fields=True):
    model: _Name
    input: str | Annotated[list[str], Meta(max_length=2048)] = ""
    truncate: bool | None = None  # cut what is too long; Ollama does unless told otherwise
    dimensions: int | None = None  # refused
    options: Any = None  # accepted and ignored, as what follows
    keep_alive: Any = None


class _Legacy(Struct, forbid_unknown_fields=True):
    model: _Name
    prompt: str | None = None
    options: Any = None  # accepted and ignored, as what follows
    keep_alive: Any = None


_EMBED: Final = msgspec.json.Decoder(_Embed)
_LEGACY: Final = msgspec.json.Decoder(_Legacy)


def read(body: bytes) -> Call:
    """Understand a body of /api/embed.

    Raises:
        ApiError: It cannot be understood, or asks for something unsupported.
    """
    asked = decode(_EMBED, body)
    if asked.dimensions:
        raise unsupported("dimensions", "shortening embeddings")
    given = [asked.input] if isinstance(asked.input, str) else asked.input
    texts = () if given == [""] else tuple(given)

    def written(made: Made) -> Json:
        return {
            "model": asked.model,
            "embeddings": [_floats(vector) for vector in made.vectors],
            "total_duration": made.took_ns,
            "load_duration": 0,
            "prompt_eval_count": made.prompt_tokens,
        }

    return Call(asked.model, texts, asked.truncate is not False, written)


def read_legacy(body: bytes) -> Call:
    """Understand a body of /api/embeddings.

    Raises:
        ApiError: It cannot be understood.
    """
    asked = decode(_LEGACY, body)

    def written(made: Made) -> Json:
        return {"embedding": _floats(made.vectors[0]) if made.vectors else []}

    texts = (asked.prompt,) if asked.prompt else ()
    return Call(asked.model, texts, is_truncated=True, body=written)


class _Endpoint:
    """If its client goes away, the work stops."""

    def __init__(self, models: Models, read: Callable[[bytes], Call]) -> None:
        self._models = models
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises `ApiError` instead of an answer."""
        call = self._read(await read_body(Request(scope, receive)))
        await unless_gone(receive, self._answer(call, scope, receive, send))

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        name, _ = names.split(call.model)
        try:
            loadable = self._models.find(name)
            made = await self._embed(name, call.texts, is_truncated=call.is_truncated)
        except AnswerError as error:
            raise faults.from_answer(error) from error
        response = replies.json(call.body(made), headers=replies.of_model(loadable))
        await response(scope, receive, send)

    async def _embed(self, name: str, texts: Sequence[str], *, is_truncated: bool) -> Made:
        began = monotonic_ns()
        vectors: list[bytes] = []
        tokens = 0
        for at in range(0, len(texts), _BATCH):
            batch = tuple(Text(text) for text in texts[at : at + _BATCH])
            made = await self._models.embedding(name, batch, is_truncated=is_truncated)
            vectors += made.vectors
            tokens += made.prompt_tokens
        return Made(tuple(vectors), tokens, monotonic_ns() - began)


def _floats(vector: bytes) -> list[float]:
    return [value for (value,) in struct.iter_unpack("<f", vector)]
