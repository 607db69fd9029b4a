"""Puts the pieces of one answer together."""

from __future__ import annotations

from sprat_agent.api.dialect import End, Whole
from sprat_agent.runtime.answer import Answer
from sprat_agent.runtime.wire import Chosen, Piece, ToolCall, ToolCallPart


class Gathered:
    """What came of one answer so far; `end` is set when it is complete."""

    def __init__(self) -> None:
        self.end: End | None = None
        self._text: list[str] = []
        self._calls: dict[int, ToolCall] = {}
        self._chosen: list[Chosen] = []

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        self._text.append(piece.text)
        self._chosen += piece.chosen
        for part in piece.tool_calls:
            self._calls[part.index] = _joined(self._calls.get(part.index), part)

    def whole(self) -> Whole:
        """Return the complete answer."""
        if self.end is None:
            raise RuntimeError("an answer is put together before it is complete")
        calls = tuple(self._calls[index] for index in sorted(self._calls))
        return Whole("".join(self._text), calls, tuple(self._chosen), self.end)


def end_of(answer: Answer) -> End:
    """Return how an answer ended, once all of it was iterated over."""
    if answer.done is None:
        raise RuntimeError("an answer ended without saying how")
    return End(answer.done, answer.timings())


def _joined(call: ToolCall | None, part: ToolCallPart) -> ToolCall:
    if call is None:
        return ToolCall(part.id, part.name, part.arguments)
    return ToolCall(call.id or part.id, call.name or part.name, call.arguments + part.arguments)
