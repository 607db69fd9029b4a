"""The one flow from a request's bytes to its answer's, whole or in a stream, in any dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sprat_agent.api import faults, names, priority
from sprat_agent.api.body import read_body
from sprat_agent.api.dialect import Call, Dialect, Origin
from sprat_agent.api.models import Models
from sprat_agent.api.replies import Connection, Reply, StreamedReply, WholeReply
from sprat_agent.api.side_by_side import answer_all
from sprat_agent.clock import Clock
from sprat_agent.runtime.faults import AnswerError
from sprat_agent.sync.ports import Loadable


class Answering:
    """Makes the endpoints that generate."""

    def __init__(self, models: Models, *, clock: Clock, new_id: Callable[[], str]) -> None:
        self._models = models
        self._clock = clock
        self._new_id = new_id

    def endpoint(self, dialect: Dialect) -> ASGIApp:
        """Return the endpoint of a dialect.

        If its client goes away, the generation stops. It raises `ApiError` instead of an answer;
        never after the answer has begun.
        """
        return _Endpoint(self, dialect)

    async def answer(self, call: Call, dialect: Dialect, connection: Connection) -> None:
        """Answer a call whose body was read; see `endpoint`."""
        is_batch = priority.is_batch(Headers(scope=connection.scope))
        answer = self._answer(call, dialect, connection, is_batch=is_batch)
        await unless_gone(connection.receive, answer)

    async def _answer(
        self, call: Call, dialect: Dialect, connection: Connection, *, is_batch: bool
    ) -> None:
        model, adapter = names.split(call.model)

        def origin(loadable: Loadable) -> Origin:
            return Origin(self._new_id(), self._clock(), call.model, loadable, adapter)

        if call.is_streamed:
            reply: Reply = StreamedReply(call.form, dialect, origin, connection)
        else:
            reply = WholeReply(call.form, origin, connection)
        requests = [msgspec.structs.replace(one, adapter=adapter) for one in call.requests]
        try:
            await answer_all(self._models, model, requests, reply.take, is_batch=is_batch)
        except AnswerError as error:
            await reply.fail(faults.from_answer(error))
        else:
            await reply.finish()


class _Endpoint:
    """An ASGI application; Starlette would take a function for one that returns a response."""

    def __init__(self, answering: Answering, dialect: Dialect) -> None:
        self._answering = answering
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = self._dialect.read(await read_body(Request(scope, receive)))
        await self._answering.answer(call, self._dialect, Connection(scope, receive, send))


async def unless_gone(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Do the work, or stop it when the client goes away; the request's body was read before."""
    working = asyncio.create_task(work, name="answer a request")
    leaving = asyncio.create_task(_disconnected(receive), name="watch for a disconnect")
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
        await asyncio.wait({working, leaving})
    with suppress(asyncio.CancelledError):
        working.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
