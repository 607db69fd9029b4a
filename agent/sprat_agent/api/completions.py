"""POST /v1/chat/completions: from the request's bytes to the answer's, whole or in a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from sprat_agent.api import faults, schema, shapes
from sprat_agent.api.models import Models
from sprat_agent.clock import Clock
from sprat_agent.runtime.answer import Answer
from sprat_agent.runtime.faults import AnswerError
from sprat_agent.runtime.wire import Done, Piece


class Completions:
    """The endpoint."""

    def __init__(self, models: Models, *, clock: Clock, new_id: Callable[[], str]) -> None:
        self._models = models
        self._clock = clock
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; if its client goes away, the generation stops.

        Raises:
            ApiError: Instead of an answer; never after the answer has begun.
        """
        request = schema.parse(await read_body(Request(scope, receive)))
        reply = self._stream if request.stream else self._whole
        await _unless_gone(receive, reply(request, _Sender(scope, receive, send)))

    async def _whole(self, request: schema.Request, sender: _Sender) -> None:
        try:
            async with self._models.answering(request.model, schema.chat(request)) as answer:
                text = "".join([piece.text async for piece in answer])
        except AnswerError as error:
            raise faults.from_answer(error) from error
        completion = self._completion(request, answer)
        body = completion.whole(text, _done(answer), answer.timings())
        await sender.whole(JSONResponse(body, headers=completion.headers()))

    async def _stream(self, request: schema.Request, sender: _Sender) -> None:
        try:
            async with self._models.answering(request.model, schema.chat(request)) as answer:
                first = await anext(answer, None)  # what goes wrong before it gets a status
                await self._send_stream(request, sender, answer, first)
        except AnswerError as error:
            if not sender.has_begun:
                raise faults.from_answer(error) from error
            await sender.end(shapes.event(faults.from_answer(error).body()))

    async def _send_stream(
        self, request: schema.Request, sender: _Sender, answer: Answer, first: Piece | None
    ) -> None:
        completion = self._completion(request, answer)
        await sender.begin(completion.headers())
        await sender.event(completion.chunk({"role": "assistant", "content": "", "refusal": None}))
        if first is not None:
            await sender.event(completion.chunk({"content": first.text}))
        async for piece in answer:
            await sender.event(completion.chunk({"content": piece.text}))
        done = _done(answer)
        last = completion.chunk({}, finish=done.finish)
        await sender.event({**last, "timings": answer.timings()})
        if request.stream_options and request.stream_options.include_usage:
            await sender.event(completion.usage_chunk(done))
        await sender.end(shapes.END_OF_STREAM)

    def _completion(self, request: schema.Request, answer: Answer) -> shapes.Completion:
        return shapes.Completion(
            id=f"chatcmpl-{self._new_id()}",
            created=int(self._clock().timestamp()),
            asked_model=request.model,
            loadable=answer.loadable,
        )


class _Sender:
    """The way out of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.has_begun = False

    async def whole(self, response: JSONResponse) -> None:
        self.has_begun = True
        await response(self._scope, self._receive, self._send)

    async def begin(self, headers: dict[str, str]) -> None:
        fixed = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        raw = [(name.encode(), value.encode()) for name, value in {**fixed, **headers}.items()]
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def event(self, body: shapes.Json) -> None:
        await self._body(shapes.event(body), has_more=True)

    async def end(self, last: bytes) -> None:
        await self._body(last, has_more=False)

    async def _body(self, data: bytes, *, has_more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": has_more})


async def read_body(request: Request) -> bytes:
    """Return the request's body.

    Raises:
        ApiError: It is longer than `schema.MAX_BODY_BYTES`.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > schema.MAX_BODY_BYTES:
            limit = schema.MAX_BODY_BYTES
            message = f"expected a request body of up to {limit} bytes, found a longer one"
            raise faults.ApiError(413, "request_too_large", message)
    return bytes(body)


async def _unless_gone(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Do the work, or stop it when the client goes away."""
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


def _done(answer: Answer) -> Done:
    if answer.done is None:
        raise RuntimeError("an answer ended without saying how")
    return answer.done
