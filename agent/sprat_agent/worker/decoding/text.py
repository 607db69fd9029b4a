"""An answer of text: plain, or held to a grammar."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Literal

from sprat_agent.worker.decoding.constraint import Constraint
from sprat_agent.worker.decoding.decoding import Part, Row
from sprat_agent.worker.decoding.stops import StopFilter
from sprat_agent.worker.vocabulary import Vocabulary


class Characters:
    """Makes text of bytes that break off anywhere; what is not UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """Return the characters that are whole now."""
        return self._decoder.decode(data)

    @property
    def unfinished(self) -> bytes:
        """The first bytes of a character that is not whole yet."""
        return self._decoder.getstate()[0]

    def flush(self) -> str:
        """Return what an unfinished character becomes."""
        return self._decoder.decode(b"", final=True)


class TextDecoding:
    """The text is shown as it comes, up to a stop string."""

    finish: Literal["stop", "tool_calls"] = "stop"

    def __init__(
        self, vocabulary: Vocabulary, stops: Sequence[str], constraint: Constraint | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._characters = Characters()
        self._stops = StopFilter(stops)
        self._constraint = constraint

    @property
    def is_constrained(self) -> bool:
        """There is a grammar."""
        return self._constraint is not None

    @property
    def is_over(self) -> bool:
        """A stop string was found, or the grammar has come to its end."""
        is_whole = self._constraint is not None and self._constraint.is_over
        return self._stops.is_stopped or is_whole

    @property
    def stopped_by(self) -> str:
        """The stop string, or none."""
        return self._stops.stopped_by

    def mask(self, row: Row) -> None:
        """Leave what the grammar allows."""
        if self._constraint is not None:
            self._constraint.mask(row)

    def take(self, token: int) -> Part:
        """Show what is not held back."""
        if self._constraint is not None:
            self._constraint.take(token)
        return Part(self._stops.feed(self._characters.feed(self._vocabulary.piece(token))))

    def end(self) -> Part:
        """Show what was held back."""
        return Part(self._stops.feed(self._characters.flush()) + self._stops.flush())
