"""How much a text surprises the model: the figure of a probe, chunk by chunk.

Computed as `sprat_controller/publisher/evaluate/child.py` does, so that its numbers agree: chunks
each from an empty context and with the model's beginning token in place of its first, and of each
chunk the second half is scored, in double precision. Differences: rows of logits are taken a few at
a time, since all of a chunk's would take more memory than was declared, and keys and values are of
the type that the model is served with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from sprat_proto.probes import LEAST_CHUNK, chunks_of

from sprat_agent.runtime.wire import Score, Scored
from sprat_agent.worker.batching.backend import Backend
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.decoding.decoding import Row
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.vocabulary import Vocabulary

ROWS: Final = 32  # of logits in a step, at 4 bytes a token of the vocabulary each


class Scoring:
    """One order on its way; between two chunks others may use the sequence."""

    def __init__(self, order: Score, backend: Backend) -> None:
        """Cut the text.

        Raises:
            EngineError: context_length_exceeded, messages_refused, not_supported.
        """
        if not backend.can_generate:
            raise EngineError("not_supported", "this model makes embeddings and scores no texts")
        if not LEAST_CHUNK <= order.chunk <= backend.context:
            raise EngineError(
                "context_length_exceeded",
                f"a text is scored in chunks of {order.chunk} tokens;"
                f" this model's context is {backend.context}, and {LEAST_CHUNK} are the least",
            )
        tokens = tokens_of(order.text, backend.vocabulary)
        if len(tokens) < order.chunk:
            raise EngineError(
                "messages_refused",
                f"expected a text of at least {order.chunk} tokens to score, found {len(tokens)}",
            )
        self.id = order.id
        self._backend = backend
        self._chunk = order.chunk
        self._tokens = tokens
        self._left = chunks_of(len(tokens), order.chunk, order.limit)
        self._at = 0
        self._scored = 0
        self._surprise = 0.0

    @property
    def is_over(self) -> bool:
        """No chunk is left."""
        return self._left == 0

    def advance(self, sequence: int, on_step: Callable[[], None]) -> None:
        """Compute the next chunk in a free sequence, and leave it empty.

        Args:
            sequence: Which.
            on_step: Called after each step.

        Raises:
            EngineError: A step failed.
        """
        backend = self._backend
        chunk = self._tokens[self._at : self._at + self._chunk]
        asked = chunk[:-1]  # what the last one predicts is in the next chunk
        if beginning := _beginning(backend.vocabulary):
            asked[0] = beginning[0]
        first = self._chunk // 2
        backend.keep(sequence, 0)
        try:
            for start, end in _pieces(len(asked), first, backend.step_tokens):
                rows = end - start if start >= first else 0
                backend.decode([Run(sequence, start, asked[start:end], rows)])
                for number in range(rows):
                    row, target = backend.row(number), chunk[start + number + 1]
                    self._surprise += surprise(row, target)
                self._scored += rows
                on_step()
        finally:
            backend.keep(sequence, 0)
        self._at += self._chunk
        self._left -= 1

    def scored(self) -> Scored:
        """Return the sums over all chunks.

        Raises:
            EngineError: engine_error: some of it is no number.
        """
        if not math.isfinite(self._surprise):
            raise EngineError(
                "engine_error", "the model gives no numbers for a next token: its weights are bad"
            )
        return Scored(self.id, self._scored, self._surprise)


def tokens_of(text: str, vocabulary: Vocabulary) -> list[int]:
    """Return a text's tokens between those that frame it; names of control tokens are text."""
    return vocabulary.framed(vocabulary.tokenize(text, has_special=False))


def surprise(row: Row, target: int) -> float:
    """Return how little likely a token was, in nats."""
    logits = row.astype(np.float64)
    highest = float(logits.max())
    return highest + math.log(float(np.exp(logits - highest).sum())) - float(logits[target])


def _beginning(vocabulary: Vocabulary) -> Sequence[int]:
    """Return the token that texts begin with, if they do."""
    first = vocabulary.framed(())[:1]
    return first if first == [vocabulary.bos] else ()


def _pieces(count: int, first: int, most: int) -> list[tuple[int, int]]:
    """Return where steps begin and end; those from `first` on have rows."""
    bare = [(at, min(at + most, first)) for at in range(0, first, most)]
    step = min(ROWS, most)
    return bare + [(at, min(at + step, count)) for at in range(first, count, step)]
