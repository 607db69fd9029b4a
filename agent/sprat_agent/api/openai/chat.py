"""POST /v1/chat/completions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sprat_agent.api import sse
from sprat_agent.api.dialect import Call, End, Json, Origin, Whole
from sprat_agent.api.faults import ApiError
from sprat_agent.api.openai import chat_schema, errors, shapes
from sprat_agent.runtime.wire import Piece

_PREFIX = "chatcmpl-"


class Chat:
    """The dialect."""

    stream_type = sse.MEDIA_TYPE

    def read(self, body: bytes) -> Call:
        """Understand a request; see `Dialect`."""
        asked = chat_schema.parse(body)
        options = asked.stream_options
        form = _ChatForm(with_usage=options is not None and options.include_usage)
        return Call(asked.model, (chat_schema.meaning(asked),), bool(asked.stream), form)

    def error_event(self, error: ApiError) -> bytes:
        """Return the event of an error in mid-stream."""
        return sse.event(errors.shape(error))


class _ChatForm:
    def __init__(self, *, with_usage: bool) -> None:
        self._with_usage = with_usage

    def whole(self, origin: Origin, answers: Sequence[Whole]) -> Json:
        return {
            **shapes.frame(origin, "chat.completion", _PREFIX),
            "choices": [_choice(index, answer) for index, answer in enumerate(answers)],
            "usage": shapes.usage([answer.end for answer in answers]),
            "timings": answers[0].end.timings,
        }

    def events(self, origin: Origin) -> _ChatEvents:
        return _ChatEvents(origin, with_usage=self._with_usage)


class _ChatEvents:
    def __init__(self, origin: Origin, *, with_usage: bool) -> None:
        self._origin = origin
        self._with_usage = with_usage

    def first(self) -> Iterable[bytes]:
        yield self._chunk(0, {"role": "assistant", "content": "", "refusal": None})

    def piece(self, index: int, piece: Piece) -> Iterable[bytes]:
        yield self._chunk(index, {"content": piece.text})

    def over(self, index: int, end: End) -> Iterable[bytes]:
        yield self._chunk(index, {}, finish=end.done.finish, timings=end.timings)

    def last(self, ends: Sequence[End]) -> Iterable[bytes]:
        if self._with_usage:
            yield sse.event({**self._frame(), "choices": [], "usage": shapes.usage(ends)})
        yield shapes.END_OF_STREAM

    def _chunk(
        self,
        index: int,
        delta: Json,
        *,
        finish: str | None = None,
        timings: dict[str, float] | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        more = {"timings": timings} if timings is not None else {}
        return sse.event({**self._frame(), "choices": [choice], **more})

    def _frame(self) -> Json:
        return shapes.frame(self._origin, "chat.completion.chunk", _PREFIX)


def _choice(index: int, answer: Whole) -> Json:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    finish = answer.end.done.finish
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
