"""POST /api/generate. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sprat_agent.api.body import decode
from sprat_agent.api.dialect import Call, Json
from sprat_agent.api.faults import ApiError, unsupported
from sprat_agent.api.ollama import errors, options, shapes
from sprat_agent.api.ollama.answers import Answers
from sprat_agent.runtime.wire import Conversation, Message, Prompt, Request, Text


class Asked(options.Generating, forbid_unknown_fields=True, kw_only=True):
    """The body, as it comes."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None  # the prompt goes to the model as it is, without its template
    # Supported only where they ask for nothing.
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[Any] | None = None

    @property
    def is_probe(self) -> bool:
        """Whether nothing is asked but that the model is there."""
        return not self.prompt


_DECODER: Final = msgspec.json.Decoder(Asked)


class Generate:
    """The dialect."""

    stream_type = shapes.STREAM_TYPE

    def __init__(self, context_of: options.ContextOf) -> None:
        self._context_of = context_of

    def read(self, body: bytes) -> Call:
        """Understand a request; see `Dialect`."""
        return self.call(self.parse(body))

    def parse(self, body: bytes) -> Asked:
        """Return what a body says.

        Raises:
            ApiError: It cannot be understood.
        """
        return decode(_DECODER, body)

    def call(self, asked: Asked) -> Call:
        """Return what that asks for.

        Raises:
            ApiError: Something unsupported.
        """
        beyond = _unsupported(asked)
        if beyond:
            raise unsupported(*beyond)
        request = options.applied(asked, Request(_prompt(asked)), self._context_of)
        return Call(asked.model, (request,), asked.is_streamed, Answers(told))

    def error_event(self, error: ApiError) -> bytes:
        """Return the line of an error in mid-stream."""
        return shapes.line(errors.shape(error))


def _prompt(asked: Asked) -> Prompt:
    prompt = asked.prompt or ""
    if asked.raw:
        return Text(prompt)
    system = (Message("system", asked.system),) if asked.system else ()
    return Conversation((*system, Message("user", prompt)))


def _unsupported(asked: Asked) -> tuple[str, str] | None:
    """Return the first thing asked for that is not supported: the field and its name for people."""
    found = [
        ("suffix", asked.suffix, "filling in the middle of a text"),
        ("template", asked.template, "another template than the release's"),
        (
            "context",
            asked.context,
            "going on with earlier tokens (/api/chat takes whole conversations)",
        ),
        ("images", asked.images, "looking at pictures"),
    ]
    return next(((param, name) for param, is_asked, name in found if is_asked), None)


def told(text: str, calls: Sequence[Json]) -> Json:  # noqa: ARG001 - no tools are offered here
    """Return the text of an answer."""
    return {"response": text}
