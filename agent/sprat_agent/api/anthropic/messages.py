"""POST /v1/messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.routing import BaseRoute, Route

from sprat_agent.api import sse
from sprat_agent.api.answering import Answering
from sprat_agent.api.anthropic import errors, schema
from sprat_agent.api.anthropic.counting import TokenCounting
from sprat_agent.api.dialect import Call, End, Json, Origin, Whole
from sprat_agent.api.faults import ApiError
from sprat_agent.api.models import Models
from sprat_agent.runtime.wire import Done, Piece, ToolCall, ToolCallPart

_REASONS: Final[Mapping[str, str]] = {"length": "max_tokens", "tool_calls": "tool_use"}
_NOTHING_YET: Final[Json] = {"stop_reason": None, "stop_sequence": None}
_TEXT: Final = -1  # in the place of a call's index


def routes(models: Models, answering: Answering) -> list[BaseRoute]:
    """Return Anthropic's endpoints."""
    return [
        Route("/v1/messages", answering.endpoint(Messages()), methods=["POST"]),
        Route("/v1/messages/count_tokens", TokenCounting(models), methods=["POST"]),
    ]


class Messages:
    """The dialect."""

    stream_type = sse.MEDIA_TYPE

    def read(self, body: bytes) -> Call:
        """Understand a request; see `Dialect`."""
        asked = schema.parse(body)
        return Call(asked.model, (schema.meaning(asked),), bool(asked.stream), _Form())

    def error_event(self, error: ApiError) -> bytes:
        """Return the event of an error in mid-stream."""
        return sse.event(errors.shape(error), "error")


class _Form:
    def whole(self, origin: Origin, answers: Sequence[Whole]) -> Json:
        (answer,) = answers
        text = [{"type": "text", "text": answer.text}] if answer.text else []
        content = [*text, *(_tool_use(call) for call in answer.tool_calls)]
        body = {**_message(origin), "content": content, **_stop(answer.end.done)}
        return {**body, **_spent(answer.end)}

    def events(self, origin: Origin) -> _Events:
        return _Events(origin)


class _Events:
    """One stream: blocks one after the other, each begun, continued and stopped."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._open: int | None = None  # what the open block is of: `_TEXT`, or a call
        self._blocks = 0  # begun so far

    def first(self) -> Iterable[bytes]:
        # How many tokens the prompt has is known at the end only.
        usage = {"input_tokens": 0, "output_tokens": 0}
        begun: Json = {**_message(self._origin), "content": [], **_NOTHING_YET, "usage": usage}
        yield _event("message_start", {"message": begun})

    def piece(self, index: int, piece: Piece) -> Iterable[bytes]:  # noqa: ARG002 - there is one
        if piece.text:
            yield from self._switch(_TEXT, {"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": piece.text})
        for part in piece.tool_calls:
            yield from self._switch(part.index, _begun(part))
            if part.arguments:
                yield self._delta({"type": "input_json_delta", "partial_json": part.arguments})

    def over(self, index: int, end: End) -> Iterable[bytes]:  # noqa: ARG002 - as above
        yield from self._close()
        yield _event("message_delta", {"delta": _stop(end.done), **_spent(end)})

    def last(self, ends: Sequence[End]) -> Iterable[bytes]:  # noqa: ARG002 - `over` told
        yield _event("message_stop", {})

    def _switch(self, to: int, block: Json) -> Iterable[bytes]:
        """Make the open block the one of `to`."""
        if self._open == to:
            return
        yield from self._close()
        self._open = to
        self._blocks += 1
        yield _event("content_block_start", {"index": self._blocks - 1, "content_block": block})

    def _close(self) -> Iterable[bytes]:
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", {"index": self._blocks - 1})

    def _delta(self, delta: Json) -> bytes:
        return _event("content_block_delta", {"index": self._blocks - 1, "delta": delta})


def _event(kind: str, body: Json) -> bytes:
    return sse.event({"type": kind, **body}, kind)


def _message(origin: Origin) -> Json:
    return {
        "id": f"msg_{origin.id}",
        "type": "message",
        "role": "assistant",
        "model": origin.asked_model,
    }


def _begun(part: ToolCallPart) -> Json:
    return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}


def _tool_use(call: ToolCall) -> Json:
    """Return a call; the arguments of one that the end of the answer cut off are empty."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        arguments = {}
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _stop(done: Done) -> Json:
    if done.stopped_by:
        return {"stop_reason": "stop_sequence", "stop_sequence": done.stopped_by}
    return {"stop_reason": _REASONS.get(done.finish, "end_turn"), "stop_sequence": None}


def _spent(end: End) -> Json:
    """Return the token counts, and what they took (ours, for programs).

    Anthropic's input tokens are those that were not in a cache.
    """
    usage = {
        "input_tokens": end.done.prompt_tokens - end.done.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": end.done.cached_tokens,
        "output_tokens": end.done.completion_tokens,
    }
    return {"usage": usage, "timings": end.timings}
