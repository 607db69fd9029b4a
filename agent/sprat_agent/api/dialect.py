"""What a dialect of the local API is: how it is asked, and how answers are written in it.

One flow answers all dialects (`answering`); a dialect only converts, without I/O, clock or state
beyond one answer's stream. Each endpoint of each dialect is one `Dialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from sprat_agent.api.faults import ApiError
from sprat_agent.runtime.wire import Chosen, Done, Piece, Request, ToolCall
from sprat_agent.sync.ports import Loadable

Json: TypeAlias = dict[str, Any]
ErrorShape: TypeAlias = Callable[[ApiError], Json]


@dataclass(frozen=True)
class Origin:
    """Who answers, and when."""

    id: str  # of the answer; unique, without any prefix
    created: datetime
    asked_model: str  # the name as the application gave it
    loadable: Loadable
    adapter: str = ""  # that it answered with


@dataclass(frozen=True)
class End:
    """How one answer ended."""

    done: Done
    timings: dict[str, float]  # milliseconds and tokens a second


@dataclass(frozen=True)
class Whole:
    """One answer that does not stream."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    chosen: tuple[Chosen, ...]
    end: End


class Events(Protocol):
    """One stream on its way out. It is called in order and may remember; it returns events.

    An event is the bytes of it as they go over the wire, with whatever ends it.
    """

    def first(self) -> Iterable[bytes]:
        """Return what comes before anything is known of the text."""
        ...

    def piece(self, index: int, piece: Piece) -> Iterable[bytes]:
        """Return what tells of a piece of the answer to request `index`."""
        ...

    def over(self, index: int, end: End) -> Iterable[bytes]:
        """Return what tells that the answer to request `index` is complete."""
        ...

    def last(self, ends: Sequence[End]) -> Iterable[bytes]:
        """Return what ends the stream; `ends` are in order of the requests."""
        ...


class Form(Protocol):
    """How the answer to one call is written; it knows what that call asked for."""

    def whole(self, origin: Origin, answers: Sequence[Whole]) -> Json:
        """Return the body; `answers` are in order of the requests."""
        ...

    def events(self, origin: Origin) -> Events:
        """Begin a stream."""
        ...


@dataclass(frozen=True)
class Call:
    """What an application asks, understood."""

    model: str
    requests: tuple[Request, ...]  # at least one; they are answered side by side
    is_streamed: bool
    form: Form


class Dialect(Protocol):
    """One endpoint that generates."""

    @property
    def stream_type(self) -> str:
        """The content type of a stream."""
        ...

    def read(self, body: bytes) -> Call:
        """Understand a request.

        Raises:
            ApiError: It cannot be understood, or asks for something unsupported.
        """
        ...

    def error_event(self, error: ApiError) -> bytes:
        """Return the event that ends a stream which went wrong on its way."""
        ...
