"""What an engine inside a worker is: the scheduler over llama.cpp, or the tests' scripted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from sprat_agent.runtime.wire import Answer, Count, Embed, Figures, Load, Loaded, Request, Score

Sink: TypeAlias = Callable[[Sequence[Answer]], None]


class EngineError(Exception):
    """The engine cannot load the model or answer the request: one sentence, and a stable code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Engine(Protocol):
    """Answers many requests with one model; how many at once is its own business.

    `load` and `close` block. The others do not, and are called from one thread while answers come
    from another.
    """

    def load(self, source: Load, sink: Sink) -> Loaded:
        """Load the model; from now on answers go to `sink`, all that one step made at once.

        Raises:
            EngineError: The file cannot be loaded.
        """
        ...

    def submit(self, request_id: int, request: Request) -> None:
        """Begin to answer: pieces go to the sink, and one `Done` or `Failed` in the end."""
        ...

    def embed(self, order: Embed) -> None:
        """Begin to make vectors: one `Embedded` or `Failed` goes to the sink in the end."""
        ...

    def count(self, order: Count) -> None:
        """Begin to count: one `Counted` or `Failed` goes to the sink soon."""
        ...

    def score(self, order: Score) -> None:
        """Begin to score a text: one `Scored` or `Failed` goes to the sink in the end."""
        ...

    def cancel(self, request_id: int) -> None:
        """Stop answering soon; nothing happens if the request is over."""
        ...

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from the next step on."""
        ...

    def stalled_s(self) -> float:
        """Return how long the engine has been busy without any progress; 0 when idle."""
        ...

    def figures(self) -> Figures:
        """Return what it did since it was loaded."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
