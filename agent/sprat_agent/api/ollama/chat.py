"""POST /api/chat. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from sprat_agent.api.body import decode
from sprat_agent.api.dialect import Call, Json
from sprat_agent.api.faults import ApiError
from sprat_agent.api.ollama import errors, messages, options, shapes
from sprat_agent.api.ollama.answers import Answers
from sprat_agent.api.openai import tools
from sprat_agent.runtime.wire import Conversation, Request


class Asked(options.Generating, forbid_unknown_fields=True, kw_only=True):
    """The body, as it comes."""

    messages: Annotated[list[messages.Message], Meta(max_length=4096)] | None = None
    tools: Annotated[list[tools.Tool], Meta(max_length=128)] | None = None  # as OpenAI's

    @property
    def is_probe(self) -> bool:
        """Whether nothing is asked but that the model is there."""
        return not self.messages


_DECODER: Final = msgspec.json.Decoder(Asked)


class Chat:
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
        conversation = Conversation(
            messages.meaning(asked.messages or ()), tools.offered(asked.tools)
        )
        request = options.applied(asked, Request(conversation), self._context_of)
        return Call(asked.model, (request,), asked.is_streamed, Answers(told))

    def error_event(self, error: ApiError) -> bytes:
        """Return the line of an error in mid-stream."""
        return shapes.line(errors.shape(error))


def told(text: str, calls: Sequence[Json]) -> Json:
    """Return the message of an answer."""
    more = {"tool_calls": list(calls)} if calls else {}
    return {"message": {"role": "assistant", "content": text, **more}}
