"""What a chat completion request may say, and what it means to an engine. Pure.

Fields that OpenAI has and that change nothing here are accepted and ignored; what would change the
answer and is not supported is refused, and so is what is not known: a misspelt `max_tokens` that is
silently ignored costs more than it saves.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from sprat_agent.api.body import decode
from sprat_agent.api.faults import invalid, unsupported
from sprat_agent.runtime.wire import Conversation, Message, Sampling
from sprat_agent.runtime.wire import Request as Asked

_MAX_STOPS: Final = 4

_Stop: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
_Tokens: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 24)]
_Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
_LogitBias: TypeAlias = Annotated[
    dict[Annotated[int, Meta(ge=0, lt=1 << 31)], Annotated[float, Meta(ge=-100, le=100)]],
    Meta(max_length=1024),
]


class _Part(Struct):
    type: str
    text: str = ""


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    tool_calls: Any = None
    name: str | None = None


class _StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool = False
    include_obfuscation: bool = False


class Request(Struct, forbid_unknown_fields=True):
    """The body of POST /v1/chat/completions, as it comes."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=4096)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=_MAX_STOPS)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: _LogitBias | None = None  # by token id
    seed: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    # Supported only where they ask for nothing.
    n: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    # Accepted and ignored.
    tool_choice: Any = None
    function_call: Any = None
    parallel_tool_calls: Any = None
    user: Any = None
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
    return request


def meaning(request: Request) -> Asked:
    """Return what the engine is asked.

    Raises:
        ApiError: A message holds something other than text.
    """
    defaults = Sampling()
    stop = request.stop or []
    limit = request.max_completion_tokens
    messages = tuple(_message(one, at) for at, one in enumerate(request.messages))
    sampling = Sampling(
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        top_p=defaults.top_p if request.top_p is None else request.top_p,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        logit_bias=tuple((request.logit_bias or {}).items()),
        seed=request.seed,
    )
    return Asked(
        Conversation(messages),
        sampling,
        max_tokens=request.max_tokens if limit is None else limit,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _unsupported(request: Request) -> tuple[str, str] | None:
    """Return the first thing asked for that is not supported: the field and its name for people."""
    wanted_format = (request.response_format or {}).get("type", "text")
    asked: list[tuple[str, bool, str]] = [
        ("n", (request.n or 1) > 1, "more than one choice"),
        ("tools", bool(request.tools), "calling tools"),
        ("functions", bool(request.functions), "calling functions"),
        ("response_format", wanted_format != "text", "a response format other than text"),
        ("logprobs", bool(request.logprobs), "log probabilities"),
        ("top_logprobs", bool(request.top_logprobs), "log probabilities"),
        ("modalities", (request.modalities or ["text"]) != ["text"], "output other than text"),
        ("audio", request.audio is not None, "audio"),
        ("prediction", request.prediction is not None, "predicted output"),
        ("web_search_options", request.web_search_options is not None, "searching the web"),
    ]
    return next(((param, name) for param, is_asked, name in asked if is_asked), None)


def _message(one: _Message, at: int) -> Message:
    param = f"messages[{at}]"
    if one.role in {"tool", "function"} or one.tool_calls:
        message = f"{param} is about calling tools, which this device does not support"
        raise invalid(message, param=param, code="unsupported_parameter")
    role = "system" if one.role == "developer" else one.role
    if isinstance(one.content, str):
        return Message(role, one.content)
    for part in one.content or []:
        if part.type != "text":
            message = f"{param} has a part of type {part.type[:40]!r}: only text is supported"
            raise invalid(message, param=param, code="unsupported_parameter")
    if not one.content:
        raise invalid(f"{param} has no content: expected text", param=param)
    return Message(role, "".join(part.text for part in one.content))
