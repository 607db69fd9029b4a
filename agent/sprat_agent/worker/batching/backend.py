"""What the scheduler asks of an inference library: sequences of tokens in, rows of logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sprat_agent.runtime.wire import Load, Sampling
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.decoding.decoding import Row
from sprat_agent.worker.vocabulary import Vocabulary


class Sampler(Protocol):
    """Chooses the tokens of one answer, and remembers them for its penalties."""

    def choose(self, at: int) -> int:
        """Return a token by the row of the step's token numbered `at`."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Backend(Protocol):
    """A loaded model with `slots` sequences of up to `context` tokens. One thread uses it."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its tokens."""
        ...

    @property
    def context(self) -> int:
        """Tokens that a sequence can hold."""
        ...

    @property
    def slots(self) -> int:
        """How many sequences there are, numbered from 0."""
        ...

    @property
    def step_tokens(self) -> int:
        """How many tokens a step can have."""
        ...

    @property
    def can_generate(self) -> bool:
        """It makes texts; encoders only make embeddings."""
        ...

    @property
    def can_rewind(self) -> bool:
        """Its sequences can forget their last tokens and keep the others."""
        ...

    @property
    def adapters(self) -> Sequence[str]:
        """The names of the LoRAs that it can compute with."""
        ...

    @property
    def embedding_length(self) -> int:
        """The length of its embeddings."""
        ...

    def load(self, source: Load) -> None:
        """Load the model.

        Raises:
            EngineError: load_failed: the file cannot be loaded.
        """
        ...

    def decode(self, runs: Sequence[Run]) -> None:
        """Compute the runs in one step.

        Raises:
            EngineError: engine_error: the library failed; what the sequences hold is unknown.
        """
        ...

    def use_adapter(self, name: str) -> None:
        """Compute with this adapter from now on; empty: with the model alone."""
        ...

    def row(self, at: int) -> Row:
        """Return the logits of the step's token numbered `at`, to read and to change in place."""
        ...

    def sampler(self, sampling: Sampling) -> Sampler | None:
        """Return what chooses tokens; None: the greatest logit does."""
        ...

    def keep(self, sequence: int, length: int) -> int:
        """Forget what the sequence holds beyond `length` tokens; return how many it still holds.

        That is `length`, or 0 where a model cannot go back to there.
        """
        ...

    def copy(self, source: int, target: int) -> None:
        """Make `target` hold what `source` does."""
        ...

    @property
    def state_kind(self) -> str:
        """What a saved state depends upon besides the model's file and the tokens."""
        ...

    def state_size(self, sequence: int) -> int:
        """Return how many bytes the state of a sequence takes; 0: it cannot be saved."""
        ...

    def save(self, sequence: int, size: int) -> memoryview:
        """Return the state of a sequence, of this size at most.

        No sequence was copied since the last step.
        """
        ...

    def restore(self, sequence: int, state: memoryview, length: int) -> bool:
        """Make an empty sequence hold the `length` tokens whose state was saved; tell whether.

        If not, it is empty. No sequence was copied since the last step.
        """
        ...

    def embed(self, sequence: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the embedding of a whole text, of length 1; the sequence is empty afterwards.

        Raises:
            EngineError: context_length_exceeded or engine_error.
        """
        ...

    def use_threads(self, count: int) -> None:
        """Compute with so many threads, of those that there are."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
