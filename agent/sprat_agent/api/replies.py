"""The way out of one request: whole or streamed, with headers that say who answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sprat_agent.api.dialect import Dialect, End, ErrorShape, Events, Form, Json, Origin
from sprat_agent.api.faults import ApiError
from sprat_agent.api.gathering import Gathered, end_of
from sprat_agent.api.side_by_side import Step
from sprat_agent.sync.ports import Loadable


@dataclass(frozen=True)
class Connection:
    """What ASGI gives an application for one request."""

    scope: Scope
    receive: Receive
    send: Send


class Reply(Protocol):
    """Takes the steps of a call's answers, then one of `finish` and `fail`."""

    async def take(self, step: Step) -> None:
        """Take the next step."""
        ...

    async def finish(self) -> None:
        """Send what is still to be sent, now that all answers are complete."""
        ...

    async def fail(self, fault: ApiError) -> None:
        """End a stream that has begun with the fault; without one, raise it."""
        ...


class WholeReply:
    """Sends one JSON body when all is there."""

    def __init__(
        self, form: Form, origin: Callable[[Loadable], Origin], connection: Connection
    ) -> None:
        self._form = form
        self._new_origin = origin
        self._connection = connection
        self._origin: Origin | None = None
        self._gathered: dict[int, Gathered] = {}

    async def take(self, step: Step) -> None:
        """Keep the step."""
        self._origin = self._origin or self._new_origin(step.answer.loadable)
        gathered = self._gathered.setdefault(step.index, Gathered())
        if step.piece:
            gathered.add(step.piece)
        else:
            gathered.end = end_of(step.answer)

    async def finish(self) -> None:
        """Send the body."""
        if self._origin is None:
            raise RuntimeError("a call without any request was answered")
        answers = [self._gathered[index].whole() for index in sorted(self._gathered)]
        response = json(self._form.whole(self._origin, answers), headers=headers(self._origin))
        one = self._connection
        await response(one.scope, one.receive, one.send)

    async def fail(self, fault: ApiError) -> None:
        """Raise it: nothing was sent."""
        raise fault


class StreamedReply:
    """Sends events as they come; what goes wrong before the first step still has a status."""

    def __init__(
        self,
        form: Form,
        dialect: Dialect,
        origin: Callable[[Loadable], Origin],
        connection: Connection,
    ) -> None:
        self._form = form
        self._dialect = dialect
        self._new_origin = origin
        self._connection = connection
        self._events: Events | None = None
        self._ends: dict[int, End] = {}

    async def take(self, step: Step) -> None:
        """Send what tells of the step."""
        events = self._events or await self._begin(step)
        if step.piece:
            await self._send(events.piece(step.index, step.piece))
        else:
            self._ends[step.index] = end_of(step.answer)
            await self._send(events.over(step.index, self._ends[step.index]))

    async def finish(self) -> None:
        """Send what ends the stream."""
        if self._events is None:
            raise RuntimeError("a call without any request was answered")
        ends = [self._ends[index] for index in sorted(self._ends)]
        await self._send(self._events.last(ends), is_last=True)

    async def fail(self, fault: ApiError) -> None:
        """End the stream with it, or raise it when nothing was sent."""
        if self._events is None:
            raise fault
        await self._send([self._dialect.error_event(fault)], is_last=True)

    async def _begin(self, step: Step) -> Events:
        origin = self._new_origin(step.answer.loadable)
        self._events = self._form.events(origin)
        fixed = {"content-type": self._dialect.stream_type, "cache-control": "no-cache"}
        named = {**fixed, **headers(origin)}
        raw = [(name.encode(), value.encode()) for name, value in named.items()]
        await self._connection.send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._send(self._events.first())
        return self._events

    async def _send(self, events: Iterable[bytes], *, is_last: bool = False) -> None:
        data = b"".join(events)
        if data or is_last:
            await self._connection.send(
                {"type": "http.response.body", "body": data, "more_body": not is_last}
            )


def json(body: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def error(fault: ApiError, shape: ErrorShape) -> Response:
    """Return an error in a dialect's shape."""
    retry_after = fault.retry_after_s
    named = {"retry-after": str(retry_after)} if retry_after is not None else {}
    if fault.status == HTTPStatus.UNAUTHORIZED:
        named["www-authenticate"] = "Bearer"
    return json(shape(fault), fault.status, named)


def headers(origin: Origin) -> dict[str, str]:
    """Return who answered, for people and programs that care."""
    adapter = {"x-sprat-adapter": origin.adapter} if origin.adapter else {}
    return {"x-request-id": origin.id, **of_model(origin.loadable), **adapter}


def of_model(loadable: Loadable) -> dict[str, str]:
    """Return which model answered."""
    return {
        "x-sprat-model": loadable.name,
        "x-sprat-version": loadable.release,
        "x-sprat-variant": loadable.variant,
        "x-sprat-digest": loadable.digest,
        "x-sprat-signer": _header_text(loadable.signer),
    }


def _header_text(text: str) -> str:
    """Make a publisher's name fit a header: latin-1 and no line ends."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)
