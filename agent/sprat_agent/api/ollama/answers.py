"""How Ollama writes an answer, whole or line by line: alike for chats and for texts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from sprat_agent.api.dialect import End, Json, Origin, Whole
from sprat_agent.api.gathering import Gathered
from sprat_agent.api.logprobs import entries
from sprat_agent.api.ollama import shapes
from sprat_agent.runtime.wire import Chosen, Piece

# Where a text and the calls that go with it have their place in a body.
Told: TypeAlias = Callable[[str, Sequence[Json]], Json]


class Answers:
    """The form; see `dialect.Form`."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def whole(self, origin: Origin, answers: Sequence[Whole]) -> Json:
        """Return the body of the one answer."""
        (answer,) = answers
        return {
            **shapes.frame(origin),
            **self._told(answer.text, shapes.calls(answer.tool_calls)),
            **_logprobs(answer.chosen),
            **shapes.end(answer.end),
        }

    def events(self, origin: Origin) -> Lines:
        """Begin a stream."""
        return Lines(origin, self._told)


class Lines:
    """One stream; Ollama tells calls whole, so their pieces are kept until its end."""

    def __init__(self, origin: Origin, told: Told) -> None:
        self._origin = origin
        self._told = told
        self._gathered = Gathered()

    def first(self) -> Iterable[bytes]:
        """Return nothing: each line says who answers."""
        return ()

    def piece(self, index: int, piece: Piece) -> Iterable[bytes]:  # noqa: ARG002 - there is one
        """Return the line of some text."""
        self._gathered.add(piece)
        if piece.text or piece.chosen:
            yield self._line(piece.text, (), {**_logprobs(piece.chosen), "done": False})

    def over(self, index: int, end: End) -> Iterable[bytes]:  # noqa: ARG002 - as above
        """Return the line of the calls."""
        self._gathered.end = end
        calls = shapes.calls(self._gathered.whole().tool_calls)
        if calls:
            yield self._line("", calls, {"done": False})

    def last(self, ends: Sequence[End]) -> Iterable[bytes]:
        """Return the line with all counts."""
        yield self._line("", (), shapes.end(ends[0]))

    def _line(self, text: str, calls: Sequence[Json], more: Json) -> bytes:
        return shapes.line({**shapes.frame(self._origin), **self._told(text, calls), **more})


def _logprobs(chosen: Sequence[Chosen]) -> Json:
    return {"logprobs": entries(chosen)} if chosen else {}
