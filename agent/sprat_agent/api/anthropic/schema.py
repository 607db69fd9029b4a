"""What a request for a message may say, and what it means to an engine. Pure.

Fields that Anthropic has and that change nothing here are accepted and ignored; fields that are not
known are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from sprat_agent.api.anthropic import content
from sprat_agent.api.body import decode
from sprat_agent.api.faults import invalid, unsupported
from sprat_agent.api.openai.tools import FunctionName, check_choice, check_names
from sprat_agent.api.sampling import Name, Share, Stop, TokenCount, TopK, chosen_by
from sprat_agent.runtime import wire

_Asked = TypeVar("_Asked", bound="Asked")
_MODES: Final = {"auto": "auto", "any": "required", "none": "none"}


class Tool(Struct):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None  # of Anthropic's own tools; here there are none of these


class Choice(Struct):
    """Whether and which tool is to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class Format(Struct, forbid_unknown_fields=True):
    """What the answer's text is to satisfy."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct, forbid_unknown_fields=True):
    """What is asked of the answer beyond its content."""

    format: Format | None = None
    effort: Any = None  # accepted and ignored


class Asked(Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields of all requests that put a conversation to a model."""

    model: Name
    messages: Annotated[list[content.Message], Meta(min_length=1, max_length=4096)]
    system: str | list[content.Block] | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Choice | None = None
    output_config: OutputConfig | None = None
    # Supported only where they ask for nothing.
    mcp_servers: list[Any] | None = None
    # Accepted and ignored.
    thinking: Any = None
    context_management: Any = None
    cache_control: Any = None
    speed: Any = None
    user_profile_id: Any = None


class CountRequest(Asked, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/messages/count_tokens, as it comes."""


class Request(Asked, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/messages, as it comes."""

    max_tokens: TokenCount
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Share | None = None
    top_k: TopK | None = None
    stop_sequences: Annotated[list[Stop], Meta(max_length=16)] | None = None
    # Accepted and ignored.
    metadata: Any = None
    service_tier: Any = None
    container: Any = None
    diagnostics: Any = None
    inference_geo: Any = None
    workspace_id: Any = None


_DECODER: Final = msgspec.json.Decoder(Request)
_COUNT_DECODER: Final = msgspec.json.Decoder(CountRequest)


def parse(body: bytes) -> Request:
    """Read a request for a message.

    Raises:
        ApiError: It cannot be understood, or asks for something unsupported: one sentence.
    """
    return _supported(decode(_DECODER, body))


def parse_count(body: bytes) -> CountRequest:
    """Read a request for a count; raises as `parse` does."""
    return _supported(decode(_COUNT_DECODER, body))


def meaning(request: Request) -> wire.Request:
    """Return what the engine is asked.

    Raises:
        ApiError: A message holds something other than text, tools and their use do not match, or
            the answer is begun already.
    """
    if request.messages[-1].role == "assistant":
        message = (
            "expected messages that end with the user's, found the assistant's last: going on with"
            " an answer that is begun is not supported by this device"
        )
        raise invalid(message, param="messages", code="unsupported_parameter")
    wanted_format = request.output_config and request.output_config.format
    return wire.Request(
        conversation(request),
        chosen_by(temperature=request.temperature, top_p=request.top_p, top_k=request.top_k),
        max_tokens=request.max_tokens,
        stop=tuple(request.stop_sequences or ()),
        schema=wanted_format.schema if wanted_format else None,
    )


def conversation(asked: Asked) -> wire.Conversation:
    """Return what is put to the model; raises as `meaning` does."""
    tools = _offered(asked.tools or [])
    wanted = asked.tool_choice or Choice("auto")
    if wanted.type == "tool" and wanted.name not in {one.name for one in tools}:
        message = f"tool_choice names {wanted.name[:64]!r}, which is not among the tools"
        raise invalid(message, param="tool_choice")
    return wire.Conversation(
        content.meaning(asked.system, asked.messages),
        tools,
        check_choice(_MODES.get(wanted.type, wanted.name), tools),
        not wanted.disable_parallel_tool_use,
    )


def _supported(asked: _Asked) -> _Asked:
    if asked.mcp_servers:
        raise unsupported("mcp_servers", "calling servers of tools")
    return asked


def _offered(tools: list[Tool]) -> tuple[wire.Tool, ...]:
    for one in tools:
        if one.type not in {None, "custom"}:
            raise unsupported("tools", f"the tool {str(one.type)[:40]!r}")
    found = tuple(
        wire.Tool(one.name, one.description or "", one.input_schema or {}) for one in tools
    )
    check_names(found)
    return found
