"""An answer that may call tools: text up to where calls begin, and only calls from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sprat_agent.worker.decoding.calls import CallReader
from sprat_agent.worker.decoding.constraint import Constraint
from sprat_agent.worker.decoding.decoding import Part, Row
from sprat_agent.worker.decoding.stops import StopFilter
from sprat_agent.worker.decoding.text import Characters
from sprat_agent.worker.decoding.trigger import Trigger
from sprat_agent.worker.vocabulary import Vocabulary


class ToolDecoding:
    """Stop strings count in what is shown as text: arguments are not cut by them."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        stops: Sequence[str],
        constraint: Constraint,
        *,
        marks: Mapping[str, int],
        trigger: Trigger | None,
        is_constrained: bool,
        reader: CallReader,
    ) -> None:
        """Begin.

        Args:
            vocabulary: The model's tokens.
            stops: Stop strings.
            constraint: Of calls; of all that may come, if it `is_constrained` from the beginning.
            marks: Control tokens that are around calls, by their text.
            trigger: Where calls begin; None: at once.
            is_constrained: The first token is held to the grammar already.
            reader: Of calls.
        """
        self._vocabulary = vocabulary
        self._characters = Characters()
        self._stops = StopFilter(stops)
        self._constraint = constraint
        self._marks = frozenset(marks.values())
        self._texts = marks
        self._trigger = trigger
        self._is_constrained = is_constrained
        self._reader = reader

    @property
    def is_constrained(self) -> bool:
        """The grammar holds already."""
        return self._is_constrained

    @property
    def is_over(self) -> bool:
        """A stop string was found, or the grammar has come to its end."""
        return self._stops.is_stopped or (self._is_constrained and self._constraint.is_over)

    @property
    def finish(self) -> Literal["stop", "tool_calls"]:
        """Tell whether a call was made."""
        return "tool_calls" if self._reader.count else "stop"

    @property
    def stopped_by(self) -> str:
        """The stop string, or none."""
        return self._stops.stopped_by

    def mask(self, row: Row) -> None:
        """Leave what the grammar allows, once it holds."""
        if self._is_constrained:
            self._constraint.mask(row)

    def take(self, token: int) -> Part:
        """Show text that is not held back, or parts of calls."""
        if self._is_constrained:
            self._constraint.take(token)
        is_mark = token in self._marks
        data = self._vocabulary.name(token) if is_mark else self._vocabulary.piece(token)
        return self._feed(self._characters.feed(data))

    def end(self) -> Part:
        """Show what was held back."""
        part = self._feed(self._characters.flush())
        text = self._trigger.flush() if self._trigger else ""
        return Part(part.text + self._stops.feed(text) + self._stops.flush(), part.tool_calls)

    def _feed(self, text: str) -> Part:
        if self._trigger is None:
            return Part(tool_calls=self._reader.feed(text))
        shown, calls = self._trigger.feed(text)
        while calls and not self._call(calls):
            more, calls = self._trigger.go_on(calls)
            shown += more
        if not calls:
            return Part(self._stops.feed(shown))
        self._trigger = None
        shown = self._stops.feed(shown) + self._stops.flush()
        return Part(shown, () if self._stops.is_stopped else self._reader.feed(calls))

    def _call(self, text: str) -> bool:
        """Hold the answer to the calls' grammar from here on, if it allows what is there."""
        if self._is_constrained:
            return True
        mark = next((mark for mark in self._texts if text.startswith(mark)), "")
        tokens = [self._texts[mark]] if mark else []
        # The last token may end inside of a character, whose bytes the grammar has to know of.
        data = text[len(mark) :].encode() + self._characters.unfinished
        self._is_constrained = self._constraint.takes(tokens, data)
        return self._is_constrained
