"""POST /v1/completions. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sprat_agent.api import sse
from sprat_agent.api.dialect import Call, End, Json, Origin, Whole
from sprat_agent.api.faults import ApiError
from sprat_agent.api.openai import completion_schema, errors, shapes
from sprat_agent.api.openai.logprobs import CompletionBlocks
from sprat_agent.runtime.wire import Piece

_KIND = "text_completion"
_PREFIX = "cmpl-"


class Completion:
    """The dialect."""

    stream_type = sse.MEDIA_TYPE

    def read(self, body: bytes) -> Call:
        """Understand a request; see `Dialect`."""
        asked = completion_schema.parse(body)
        requests = completion_schema.meaning(asked)
        options = asked.stream_options
        form = _CompletionForm(
            choices=asked.n or 1, with_usage=options is not None and options.include_usage
        )
        return Call(asked.model, requests, bool(asked.stream), form)

    def error_event(self, error: ApiError) -> bytes:
        """Return the event of an error in mid-stream."""
        return sse.event(errors.shape(error))


class _CompletionForm:
    def __init__(self, *, choices: int, with_usage: bool) -> None:
        self._choices = choices  # of each prompt
        self._with_usage = with_usage

    def whole(self, origin: Origin, answers: Sequence[Whole]) -> Json:
        choices = [
            _choice(index, answer.text, CompletionBlocks().next(answer.chosen), answer.end)
            for index, answer in enumerate(answers)
        ]
        return {
            **shapes.frame(origin, _KIND, _PREFIX),
            "choices": choices,
            "usage": shapes.usage([answer.end for answer in answers], self._choices),
            "timings": answers[0].end.timings,
        }

    def events(self, origin: Origin) -> _CompletionEvents:
        return _CompletionEvents(origin, choices=self._choices, with_usage=self._with_usage)


class _CompletionEvents:
    def __init__(self, origin: Origin, *, choices: int, with_usage: bool) -> None:
        self._origin = origin
        self._choices = choices
        self._with_usage = with_usage
        self._blocks: defaultdict[int, CompletionBlocks] = defaultdict(CompletionBlocks)

    def first(self) -> Iterable[bytes]:
        return ()

    def piece(self, index: int, piece: Piece) -> Iterable[bytes]:
        block = self._blocks[index].next(piece.chosen)
        yield self._chunk(_choice(index, piece.text, block))

    def over(self, index: int, end: End) -> Iterable[bytes]:
        yield self._chunk(_choice(index, "", None, end), timings=end.timings)

    def last(self, ends: Sequence[End]) -> Iterable[bytes]:
        if self._with_usage:
            usage = shapes.usage(ends, self._choices)
            yield sse.event({**self._frame(), "choices": [], "usage": usage})
        yield shapes.END_OF_STREAM

    def _chunk(self, choice: Json, **more: dict[str, float]) -> bytes:
        return sse.event({**self._frame(), "choices": [choice], **more})

    def _frame(self) -> Json:
        return shapes.frame(self._origin, _KIND, _PREFIX)


def _choice(index: int, text: str, block: Json | None, end: End | None = None) -> Json:
    finish = end.done.finish if end else None
    return {"index": index, "text": text, "logprobs": block, "finish_reason": finish}
