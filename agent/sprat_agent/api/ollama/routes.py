"""Ollama's paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Generic, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from sprat_agent import __version__
from sprat_agent.api import faults, names, replies
from sprat_agent.api.answering import Answering
from sprat_agent.api.body import decode, read_body
from sprat_agent.api.dialect import Call, Dialect, Json
from sprat_agent.api.models import Models
from sprat_agent.api.ollama import chat, embed, generate, managed, shapes
from sprat_agent.api.replies import Connection
from sprat_agent.clock import Clock
from sprat_agent.runtime.faults import AnswerError
from sprat_agent.sync.ports import Loadable

# The release of Ollama whose API this speaks: clients look at it before they use a feature.
API_VERSION: Final = "0.12.6"


def routes(
    models: Models,
    answering: Answering,
    clock: Clock,
    status: Callable[[], Mapping[str, object]],
) -> list[BaseRoute]:
    """Return Ollama's endpoints; `status` is what the device says of itself."""
    listing = _Listing(models, clock)

    def context_of(name: str) -> int:
        return _found(models, name).context

    chatting = _Probed(answering, chat.Chat(context_of), chat.told("", ()), models, clock)
    generating = _Probed(
        answering, generate.Generate(context_of), generate.told("", ()), models, clock
    )
    return [
        Route("/api/chat", chatting, methods=["POST"]),
        Route("/api/generate", generating, methods=["POST"]),
        *embed.routes(models),
        Route("/", listing.root),
        Route("/api/tags", listing.tags),
        Route("/api/ps", listing.running),
        Route("/api/show", listing.show, methods=["POST"]),
        Route("/api/version", listing.version),
        *managed.routes(status),
    ]


class _Asked(Protocol):
    @property
    def model(self) -> str: ...

    @property
    def is_probe(self) -> bool: ...


_AskedT = TypeVar("_AskedT", bound=_Asked)


class _Probing(Dialect, Protocol[_AskedT]):
    """A dialect whose requests may ask for nothing."""

    def parse(self, body: bytes) -> _AskedT: ...

    def call(self, asked: _AskedT) -> Call: ...


class _Probed(Generic[_AskedT]):
    """An endpoint that also answers requests without a prompt, by which clients load a model."""

    def __init__(
        self,
        answering: Answering,
        dialect: _Probing[_AskedT],
        empty: Json,
        models: Models,
        clock: Clock,
    ) -> None:
        self._answering = answering
        self._dialect = dialect
        self._empty = empty
        self._models = models
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = self._dialect.parse(await read_body(Request(scope, receive)))
        if not asked.is_probe:
            call = self._dialect.call(asked)
            await self._answering.answer(call, self._dialect, Connection(scope, receive, send))
            return
        found = _found(self._models, asked.model)
        told = shapes.loaded(asked.model, self._clock(), self._empty)
        response = replies.json(told, headers=replies.of_model(found))
        await response(scope, receive, send)


class _Show(Struct):
    model: Annotated[str, Meta(max_length=256)] = ""
    name: Annotated[str, Meta(max_length=256)] = ""  # what older clients say


_SHOW: Final = msgspec.json.Decoder(_Show)


class _Listing:
    """The endpoints that tell of models; looking loads none."""

    def __init__(self, models: Models, clock: Clock) -> None:
        self._models = models
        self._started = clock()

    async def root(self, _request: Request) -> Response:
        """GET /: somebody is there; Ollama's command looks for nothing more before it begins."""
        return PlainTextResponse("Sprat is running")

    async def tags(self, _request: Request) -> Response:
        """GET /api/tags: each alias that can be asked, and each adapter."""
        offered = names.listed(self._models.offered())
        return replies.json({"models": [shapes.listed(*one, self._started) for one in offered]})

    async def running(self, _request: Request) -> Response:
        """GET /api/ps: each alias whose committed model is in memory."""
        found = [
            shapes.running(one.alias, one.committed, self._started)
            for one in self._models.statuses()
            if one.committed and one.worker_pid is not None
        ]
        return replies.json({"models": found})

    async def show(self, request: Request) -> Response:
        """POST /api/show: what a model is."""
        asked = decode(_SHOW, await read_body(request))
        found = _found(self._models, asked.model or asked.name)
        return replies.json(shapes.shown(found, self._started), headers=replies.of_model(found))

    async def version(self, _request: Request) -> Response:
        """GET /api/version."""
        return replies.json({"version": API_VERSION, "sprat": __version__})


def _found(models: Models, name: str) -> Loadable:
    try:
        return names.find(models, name)
    except AnswerError as error:
        raise faults.from_answer(error) from error
