"""What a request of the Responses API may say, and what it means to an engine. Pure.

Nothing is kept from one request to the next: the application sends the whole conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sprat_agent.api.body import decode
from sprat_agent.api.faults import ApiError, invalid, unsupported
from sprat_agent.api.openai import schema, tools
from sprat_agent.api.sampling import Name, TokenCount, chosen_by
from sprat_agent.runtime import wire


class _Part(Struct):
    type: str
    text: str = ""
    refusal: str = ""


class _Item(Struct):
    """One item of `input`; which fields count depends on its type."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[_Part] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[_Part] | None = None


class _Tool(Struct):
    type: str
    name: tools.FunctionName = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None  # arguments always satisfy their schema here


class _ToolChoice(Struct):
    type: Literal["function"]
    name: tools.FunctionName


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class _TextOptions(Struct):
    format: _Format | None = None
    verbosity: Any = None  # accepted and ignored


class Request(Struct, forbid_unknown_fields=True):
    """The body of POST /v1/responses, as it comes."""

    model: Name
    input: str | Annotated[list[_Item], Meta(min_length=1, max_length=4096)]
    instructions: str | None = None
    tools: Annotated[list[_Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["auto", "none", "required"] | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: _TextOptions | None = None
    max_output_tokens: TokenCount | None = None
    temperature: schema.Temperature | None = None
    top_p: schema.TopP | None = None
    stream: bool | None = None
    # Supported only where they ask for nothing.
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    prompt: Any = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    # Accepted and ignored.
    store: Any = None
    metadata: Any = None
    user: Any = None
    reasoning: Any = None
    truncation: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    max_tool_calls: Any = None
    stream_options: Any = None


_DECODER: Final = msgspec.json.Decoder(Request)


def parse(body: bytes) -> Request:
    """Read a request and check that what it asks for is supported.

    Raises:
        ApiError: Not JSON, a wrong or unknown field, or something unsupported: one sentence.
    """
    request = decode(_DECODER, body)
    asked: list[tuple[str, bool, str]] = [
        ("previous_response_id", bool(request.previous_response_id), "going on with an answer"),
        ("conversation", request.conversation is not None, "keeping a conversation"),
        ("background", bool(request.background), "answering in the background"),
        ("prompt", request.prompt is not None, "keeping prompts"),
        ("include", bool(request.include), "telling more about an answer"),
        ("top_logprobs", bool(request.top_logprobs), "telling log probabilities here"),
    ]
    beyond = next(((param, name) for param, is_asked, name in asked if is_asked), None)
    if beyond:
        raise unsupported(*beyond)
    return request


def meaning(request: Request) -> wire.Request:
    """Return what the engine is asked.

    Raises:
        ApiError: An item is no text and no call, or tools and their use do not match.
    """
    offered = _tools(request.tools or ())
    wanted = request.tool_choice or "auto"
    name = wanted.name if isinstance(wanted, _ToolChoice) else wanted
    return wire.Request(
        wire.Conversation(
            _messages(request),
            offered,
            tools.check_choice(name, offered),
            request.parallel_tool_calls is not False,
        ),
        chosen_by(temperature=request.temperature, top_p=request.top_p),
        max_tokens=request.max_output_tokens,
        schema=_schema(request.text.format if request.text else None),
    )


def _tools(given: Sequence[_Tool]) -> tuple[wire.Tool, ...]:
    for at, one in enumerate(given):
        if one.type != "function" or not one.name:
            message = (
                f"tools[{at}] is of type {one.type[:40]!r}: only functions with names are known"
            )
            raise invalid(message, param="tools", code="unsupported_parameter")
    found = tuple(wire.Tool(one.name, one.description or "", one.parameters or {}) for one in given)
    tools.check_names(found)
    return found


def _schema(wanted: _Format | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.schema is None:
        raise invalid("expected the schema in text.format.schema, found none", param="text")
    return wanted.schema


def _messages(request: Request) -> tuple[wire.Message, ...]:
    found: list[wire.Message] = []
    if request.instructions:
        found.append(wire.Message("system", request.instructions))
    if isinstance(request.input, str):
        return (*found, wire.Message("user", request.input))
    for at, item in enumerate(request.input):
        match item.type:
            case "message":
                role = "system" if item.role == "developer" else item.role
                found.append(wire.Message(role, _text(item.content, at)))
            case "function_call":
                call = wire.ToolCall(item.call_id, item.name, item.arguments)
                _add_call(found, call)
            case "function_call_output":
                text = _text(item.output, at)
                found.append(wire.Message("tool", text, tool_call_id=item.call_id))
            case "reasoning":  # of an earlier answer: the model does not need it
                pass
            case other:
                raise _unknown(at, f"is of type {other[:40]!r}")
    return tuple(found)


def _add_call(found: list[wire.Message], call: wire.ToolCall) -> None:
    """Add a call to the turn of the assistant that it belongs to."""
    if found and found[-1].role == "assistant":
        calls = (*found[-1].tool_calls, call)
        found[-1] = msgspec.structs.replace(found[-1], tool_calls=calls)
    else:
        found.append(wire.Message("assistant", "", (call,)))


def _text(content: str | list[_Part] | None, at: int) -> str:
    if content is None:
        raise invalid(f"input[{at}] has no content: expected text", param=f"input[{at}]")
    if isinstance(content, str):
        return content
    for part in content:
        if part.type not in {"input_text", "output_text", "text", "refusal"}:
            raise _unknown(at, f"has a part of type {part.type[:40]!r}")
    return "".join(part.text or part.refusal for part in content)


def _unknown(at: int, found: str) -> ApiError:
    message = f"input[{at}] {found}: only text, function calls and their outputs are supported"
    return invalid(message, param=f"input[{at}]", code="unsupported_parameter")
