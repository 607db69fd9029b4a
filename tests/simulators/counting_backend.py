"""A `Backend` without a model: the next token follows from all tokens that a sequence holds.

It follows also from the adapter that each was computed with. A scheduler that mixes sequences or
adapters up, loses a token or shares the wrong prefix gives another answer than `answer` says. It
also watches what llama.cpp would end the process for.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sprat_agent.runtime.wire import Load, Sampling
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.decoding.decoding import Row
from sprat_agent.worker.engine import EngineError

from simulators.byte_vocabulary import ByteVocabulary

_LETTERS: Final = 26


class CountingBackend:
    """See the module; `gate` holds the engine thread before each step while it is not set."""

    step_tokens = 32
    can_generate = True
    can_rewind = True
    embedding_length = 4
    adapters = ("a", "b")

    def __init__(self, slots: int = 2, context: int = 256, memory: int | None = None) -> None:
        """Prepare.

        Args:
            slots: Sequences.
            context: Tokens of each.
            memory: How many of the last tokens the next one follows from; by default all.
        """
        self.vocabulary = ByteVocabulary()
        self.slots = slots
        self.context = context
        self._memory = memory
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.adapter = ""
        self.adapters_of_steps: list[str] = []
        self.computed = 0  # tokens, all together
        self.steps: list[tuple[Run, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failures = 0  # how many more steps fail
        self.is_closed = False
        self.is_settled = True  # nothing was copied since the last step
        self.restored = 0  # tokens, all together
        self.state_kind = "counting"
        self.token_bytes = 8  # of a state, at least 8
        self.is_choosy = False  # refuses every state
        self._rows: dict[int, Row] = {}

    def load(self, source: Load) -> None:
        """Nothing to load."""

    def decode(self, runs: Sequence[Run]) -> None:
        """Take the tokens, which must follow on those that are held."""
        self.gate.wait()
        self.steps.append(tuple(runs))
        self.adapters_of_steps.append(self.adapter)
        if self.failures:
            self.failures -= 1
            raise EngineError("engine_error", "told to fail")
        self._rows.clear()
        self.is_settled = True
        at = 0
        assert 0 < sum(len(run.tokens) for run in runs) <= self.step_tokens
        assert len({run.sequence for run in runs}) == len(runs)
        for run in runs:
            held = self.held[run.sequence]
            assert run.start == len(held)
            for number, token in enumerate(run.tokens):
                held.append(token + self._mark(self.adapter))
                if number >= len(run.tokens) - run.rows:
                    self._rows[at] = self._row(held)
                at += 1
            assert len(held) <= self.context
            self.computed += len(run.tokens)

    def use_adapter(self, name: str) -> None:
        """Mark the tokens of the next steps with it."""
        assert not name or name in self.adapters
        self.adapter = name

    def row(self, at: int) -> Row:
        """Return the logits of a token that got some."""
        return self._rows[at]

    def sampler(self, sampling: Sampling) -> None:
        """Return nothing: all answers are greedy."""

    def keep(self, sequence: int, length: int) -> int:
        """Forget what is beyond."""
        assert length <= len(self.held[sequence])
        del self.held[sequence][length:]
        return length

    def copy(self, source: int, target: int) -> None:
        """Copy all, with the next step."""
        self.held[target] = list(self.held[source])
        self.is_settled = False

    def state_size(self, sequence: int) -> int:
        """Return the size of its tokens."""
        return len(self.held[sequence]) * self.token_bytes

    def save(self, sequence: int, size: int) -> memoryview:
        """Return its tokens."""
        assert self.is_settled
        assert size == self.state_size(sequence)
        held = self.held[sequence]
        state = b"".join(token.to_bytes(self.token_bytes, "little") for token in held)
        return memoryview(state)

    def restore(self, sequence: int, state: memoryview, length: int) -> bool:
        """Hold the tokens that were saved."""
        assert self.is_settled
        assert not self.held[sequence]
        width = self.token_bytes
        parts = [state[at : at + width] for at in range(0, len(state), width)]
        tokens = [int.from_bytes(part, "little") for part in parts]
        if self.is_choosy or len(tokens) != length:
            return False
        self.held[sequence] = tokens
        self.restored += length
        return True

    def embed(self, sequence: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return a vector that tells the number of tokens."""
        assert not self.adapter
        self.held[sequence] = []
        return np.array([len(tokens), 0, 0, 0], np.float32)

    def use_threads(self, count: int) -> None:
        """Nothing: there is one."""

    def close(self) -> None:
        """Say so."""
        self.is_closed = True

    def answer(self, prompt: str, count: int, adapter: str = "") -> str:
        """Return the text that `count` tokens after a prompt make."""
        mark = self._mark(adapter)
        held = [mark + token for token in self.vocabulary.tokenize(prompt, has_special=True)]
        begun = len(held)
        for _ in range(count):
            held.append(mark + self._next(held))
        return bytes(token - mark for token in held[begun:]).decode("ascii")

    def _mark(self, adapter: str) -> int:
        return 1000 * (self.adapters.index(adapter) + 1) if adapter else 0

    def _row(self, held: Sequence[int]) -> Row:
        row = np.zeros(self.vocabulary.size, np.float32)
        row[self._next(held)] = 9.0
        return row

    def expected(self, held: Sequence[int]) -> int:
        """Return the token that it expects after these."""
        return self._next(held)

    def _next(self, held: Sequence[int]) -> int:
        """Return a letter that follows from the tokens and their order."""
        state = 0
        for token in held[-self._memory :] if self._memory else held:
            state = (state * 31 + token + 1) % 1_000_003
        return ord("a") + state % _LETTERS
