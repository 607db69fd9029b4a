"""POST /api/chat. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from sprat_agent.api.body import decode
from sprat_agent.api.dialect import Call, End, Json, Origin, Whole
from sprat_agent.api.faults import ApiError
from sprat_agent.api.gathering import Gathered
from sprat_agent.api.ollama import errors, messages, options, shapes
from sprat_agent.api.openai import tools
from sprat_agent.runtime.wire import Conversation, Piece, Request

EMPTY: Final[Json] = {"message": {"role": "assistant", "content": ""}}


class Asked(options.Generating, forbid_unknown_fields=True, kw_only=True):
    """The body, as it comes."""

    messages: Annotated[list[messages.Message], Meta(max_length=4096)] | None = None
    tools: Annotated[list[tools.Tool], Meta(max_length=128)] | None = None  # as OpenAI's

    @property
    def is_probe(self) -> bool:
        """Whether nothing is asked but that the model is there."""
        return not self.messages


_DECODER: Final = msgspec.json.Decoder(Asked)


def parse(body: bytes) -> Asked:
    """Understand a body.

    Raises:
        ApiError: It cannot be understood.
    """
    return decode(_DECODER, body)


class Chat:
    """The dialect."""

    stream_type = shapes.STREAM_TYPE

    def __init__(self, context_of: options.ContextOf) -> None:
        self._context_of = context_of

    def read(self, body: bytes) -> Call:
        """Understand a request; see `Dialect`."""
        asked = parse(body)
        conversation = Conversation(
            messages.meaning(asked.messages or ()), tools.offered(asked.tools)
        )
        request = options.applied(asked, Request(conversation), self._context_of)
        return Call(asked.model, (request,), asked.is_streamed, _Form())

    def error_event(self, error: ApiError) -> bytes:
        """Return the line of an error in mid-stream."""
        return shapes.line(errors.shape(error))


class _Form:
    def whole(self, origin: Origin, answers: Sequence[Whole]) -> Json:
        (answer,) = answers
        message: Json = {"role": "assistant", "content": answer.text}
        if answer.tool_calls:
            message["tool_calls"] = shapes.calls(answer.tool_calls)
        return {**shapes.frame(origin), "message": message, **shapes.end(answer.end)}

    def events(self, origin: Origin) -> _Events:
        return _Events(origin)


class _Events:
    """Ollama tells calls whole, so their pieces are kept until the answer is complete."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._gathered = Gathered()

    def first(self) -> Iterable[bytes]:
        return ()

    def piece(self, index: int, piece: Piece) -> Iterable[bytes]:  # noqa: ARG002 - there is one
        self._gathered.add(piece)
        if piece.text:
            yield self._line({"content": piece.text})

    def over(self, index: int, end: End) -> Iterable[bytes]:  # noqa: ARG002 - as above
        self._gathered.end = end
        made = shapes.calls(self._gathered.whole().tool_calls)
        if made:
            yield self._line({"content": "", "tool_calls": made})

    def last(self, ends: Sequence[End]) -> Iterable[bytes]:
        yield shapes.line({**shapes.frame(self._origin), **EMPTY, **shapes.end(ends[0])})

    def _line(self, message: Json) -> bytes:
        told = {"message": {"role": "assistant", **message}, "done": False}
        return shapes.line({**shapes.frame(self._origin), **told})
