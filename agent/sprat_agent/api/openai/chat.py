"""POST /v1/chat/completions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sprat_agent.api import sse
from sprat_agent.api.dialect import Call, End, Json, Origin, Whole
from sprat_agent.api.faults import ApiError
from sprat_agent.api.openai import chat_schema, errors, logprobs, shapes
from sprat_agent.runtime.wire import Chosen, Piece, ToolCall, ToolCallPart

_PREFIX = "chatcmpl-"


class Chat:
    """The dialect."""

    stream_type = sse.MEDIA_TYPE

    def read(self, body: bytes) -> Call:
        """Understand a request; see `Dialect`."""
        asked = chat_schema.parse(body)
        requests = chat_schema.meaning(asked)
        options = asked.stream_options
        form = _ChatForm(
            choices=len(requests), with_usage=options is not None and options.include_usage
        )
        return Call(asked.model, requests, bool(asked.stream), form)

    def error_event(self, error: ApiError) -> bytes:
        """Return the event of an error in mid-stream."""
        return sse.event(errors.shape(error))


class _ChatForm:
    def __init__(self, *, choices: int, with_usage: bool) -> None:
        self._choices = choices
        self._with_usage = with_usage

    def whole(self, origin: Origin, answers: Sequence[Whole]) -> Json:
        return {
            **shapes.frame(origin, "chat.completion", _PREFIX),
            "choices": [_choice(index, answer) for index, answer in enumerate(answers)],
            "usage": shapes.usage([answer.end for answer in answers], self._choices),
            "timings": answers[0].end.timings,
        }

    def events(self, origin: Origin) -> _ChatEvents:
        return _ChatEvents(origin, choices=self._choices, with_usage=self._with_usage)


class _ChatEvents:
    def __init__(self, origin: Origin, *, choices: int, with_usage: bool) -> None:
        self._origin = origin
        self._choices = choices
        self._with_usage = with_usage

    def first(self) -> Iterable[bytes]:
        for index in range(self._choices):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def piece(self, index: int, piece: Piece) -> Iterable[bytes]:
        delta: Json = {}
        if piece.text or not piece.tool_calls:
            delta["content"] = piece.text
        if piece.tool_calls:
            delta["tool_calls"] = [_call_part(part) for part in piece.tool_calls]
        yield self._chunk(index, delta, chosen=piece.chosen)

    def over(self, index: int, end: End) -> Iterable[bytes]:
        yield self._chunk(index, {}, end=end)

    def last(self, ends: Sequence[End]) -> Iterable[bytes]:
        if self._with_usage:
            usage = shapes.usage(ends, self._choices)
            yield sse.event({**self._frame(), "choices": [], "usage": usage})
        yield shapes.END_OF_STREAM

    def _chunk(
        self, index: int, delta: Json, *, chosen: Sequence[Chosen] = (), end: End | None = None
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs.of_chat(chosen),
            "finish_reason": end.done.finish if end else None,
        }
        more = {"timings": end.timings} if end else {}
        return sse.event({**self._frame(), "choices": [choice], **more})

    def _frame(self) -> Json:
        return shapes.frame(self._origin, "chat.completion.chunk", _PREFIX)


def _choice(index: int, answer: Whole) -> Json:
    message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool_calls:
        message["content"] = answer.text or None
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs.of_chat(answer.chosen),
        "finish_reason": answer.end.done.finish,
    }


def _call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _call_part(part: ToolCallPart) -> Json:
    """Return a bit of a call; its id and name come once."""
    head = {"id": part.id, "type": "function"} if part.id else {}
    name = {"name": part.name} if part.name else {}
    return {"index": part.index, **head, "function": {**name, "arguments": part.arguments}}
