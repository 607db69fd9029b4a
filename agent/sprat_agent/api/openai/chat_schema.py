"""What a chat completion request may say, and what it means to an engine. Pure.

Fields that OpenAI has and that change nothing here are accepted and ignored; what would change the
answer and is not supported is refused, and so is what is not known: a misspelt `max_tokens` that is
silently ignored costs more than it saves.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from sprat_agent.api.body import decode
from sprat_agent.api.faults import invalid, unsupported
from sprat_agent.api.openai import messages, schema, tools
from sprat_agent.api.sampling import TokenCount, TopLogprobs
from sprat_agent.runtime.wire import Conversation
from sprat_agent.runtime.wire import Request as Asked


class Request(schema.Sampled, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/chat/completions, as it comes."""

    messages: Annotated[list[messages.Message], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    tools: Annotated[list[tools.Tool], Meta(max_length=128)] | None = None
    tool_choice: tools.Choice = None
    parallel_tool_calls: bool | None = None
    response_format: schema.ResponseFormat | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # Supported only where they ask for nothing.
    functions: list[Any] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    # Accepted and ignored.
    function_call: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None


_DECODER: Final = msgspec.json.Decoder(Request)


def parse(body: bytes) -> Request:
    """Read a request and check that what it asks for is supported.

    Raises:
        ApiError: Not JSON, a wrong or unknown field, or something unsupported: one sentence.
    """
    request = decode(_DECODER, body)
    beyond = _unsupported(request)
    if beyond:
        raise unsupported(*beyond)
    if request.top_logprobs is not None and not request.logprobs:
        message = "top_logprobs needs logprobs to be true: set it, or leave top_logprobs out"
        raise invalid(message, param="top_logprobs")
    return request


def meaning(request: Request) -> tuple[Asked, ...]:
    """Return what the engine is asked: one request for each choice.

    Raises:
        ApiError: A message holds something other than text, or tools and their use do not match.
    """
    offered = tools.offered(request.tools)
    limit = request.max_completion_tokens
    asked = Asked(
        Conversation(
            tuple(messages.meaning(one, at) for at, one in enumerate(request.messages)),
            offered,
            tools.choice(request.tool_choice, offered),
            request.parallel_tool_calls is not False,
            request.chat_template_kwargs or {},
        ),
        schema.sampling(request),
        max_tokens=request.max_tokens if limit is None else limit,
        stop=schema.stops(request),
        schema=schema.of_format(request.response_format),
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )
    return schema.choices(asked, request.n or 1)


def _unsupported(request: Request) -> tuple[str, str] | None:
    """Return the first thing asked for that is not supported: the field and its name for people."""
    asked: list[tuple[str, bool, str]] = [
        ("functions", bool(request.functions), "calling functions other than by tools"),
        ("modalities", (request.modalities or ["text"]) != ["text"], "output other than text"),
        ("audio", request.audio is not None, "audio"),
        ("prediction", request.prediction is not None, "predicted output"),
        ("web_search_options", request.web_search_options is not None, "searching the web"),
    ]
    return next(((param, name) for param, is_asked, name in asked if is_asked), None)
