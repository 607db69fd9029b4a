"""What an engine inside a worker is: llama.cpp is one, the tests' scripted engine another."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from sprat_agent.runtime.wire import Answer, Chat, Load

Sink: TypeAlias = Callable[[Answer], None]


class EngineError(Exception):
    """The engine cannot load the model or answer the request: one sentence, and a stable code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Engine(Protocol):
    """Answers many requests with one model; how many at once is its own business.

    `load` and `close` block. `submit` and `cancel` do not, and are called from one thread while
    answers come from another.
    """

    @property
    def slots(self) -> int:
        """How many requests it answers at once; more are queued."""
        ...

    def load(self, source: Load) -> int:
        """Load the model and return its context in tokens.

        Raises:
            EngineError: The file cannot be loaded.
        """
        ...

    def submit(self, request_id: int, chat: Chat, sink: Sink) -> None:
        """Begin to answer: pieces go to `sink`, and one `Done` or `Failed` in the end."""
        ...

    def cancel(self, request_id: int) -> None:
        """Stop answering soon; nothing happens if the request is over."""
        ...

    def stalled_s(self) -> float:
        """Return how long the engine has been busy without any progress; 0 when idle."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@dataclass(frozen=True)
class Finished:
    """How a generation ended, and what it took."""

    finish: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    prefill_s: float
    decode_s: float


Generation: TypeAlias = Generator[str, None, Finished]


class SerialModel(Protocol):
    """A model that answers one request after another; `serial.SerialEngine` makes it an engine."""

    def load(self, source: Load) -> int:
        """As for `Engine.load`."""
        ...

    def generate(self, chat: Chat) -> Generation:
        """Yield text as it comes, and an empty text wherever the generation may be cancelled.

        Raises:
            EngineError: The request cannot be answered by this model.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...
