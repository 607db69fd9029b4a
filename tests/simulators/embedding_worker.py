"""A real worker process whose engine makes vectors as it is told, for the supervisor's tests.

Run as `python embedding_worker.py DESCRIPTOR PARENT`. The first text of an order says what to do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from sprat_agent.runtime.wire import (
    Answer,
    Count,
    Counted,
    Done,
    Embed,
    Embedded,
    Failed,
    Figures,
    Load,
    Loaded,
    Piece,
    Request,
    Score,
    Text,
)
from sprat_agent.worker import serve


class EmbeddingEngine:
    """Answers with the number of each text, or breaks the contract; see `embed`."""

    def __init__(self) -> None:
        self._sink: Callable[[Sequence[Answer]], None] = _nowhere

    def load(self, source: Load, sink: Callable[[Sequence[Answer]], None]) -> Loaded:
        """Be ready at once."""
        self._sink = sink
        return Loaded(source.context, slots=1, embedding_length=1)

    def submit(self, request_id: int, request: Request) -> None:
        """Break the contract: vectors where a text was asked for."""
        del request
        self._sink([Embedded(request_id, (), 0)])

    def embed(self, order: Embed) -> None:
        """Do what the first text says."""
        first = order.inputs[0]
        match first.text if isinstance(first, Text) else "":
            case "refuse":
                self._sink([Failed(order.id, "context_length_exceeded", "told to refuse")])
            case "text":
                self._sink([Piece(order.id, "no vectors")])
            case "stranger":
                self._sink([Embedded(order.id + 1, (), 0)])
            case "hold":
                pass
            case _:
                vectors = tuple(struct.pack("<f", at) for at in range(len(order.inputs)))
                self._sink([Embedded(order.id, vectors, 7 if order.is_truncated else 5)])

    def count(self, order: Count) -> None:
        """Say 3, or break the contract: with another kind of answer."""
        match order.prompt:
            case Text(text="text"):
                self._sink([Piece(order.id, "no count")])
            case Text(text="vectors"):
                self._sink([Embedded(order.id, (), 0)])
            case Text(text="refuse"):
                self._sink([Failed(order.id, "messages_refused", "told to refuse")])
            case _:
                self._sink([Counted(order.id, 3)])

    def score(self, order: Score) -> None:
        """Refuse: only vectors are made here."""
        self._sink([Failed(order.id, "not_supported", "told to refuse")])

    def cancel(self, request_id: int) -> None:
        """Say so."""
        self._sink([Done(request_id, "cancelled", 0, 0, 0.0, 0.0)])

    def use_threads(self, count: int) -> None:
        """Need none."""

    def stalled_s(self) -> float:
        """Never stall."""
        return 0.0

    def figures(self) -> Figures:
        """Have none."""
        return Figures()

    def close(self) -> None:
        """Free nothing."""


def _nowhere(_answers: Sequence[Answer]) -> None:
    """Nothing is loaded yet."""


if __name__ == "__main__":
    serve.run(EmbeddingEngine)
