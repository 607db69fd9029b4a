"""The messages of a conversation, as OpenAI writes them. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from sprat_agent.api.faults import invalid
from sprat_agent.runtime import wire


class _Part(Struct):
    type: str
    text: str = ""
    refusal: str = ""


class _CalledFunction(Struct):
    name: str
    arguments: str = ""


class _ToolCall(Struct):
    id: str
    function: _CalledFunction
    type: Literal["function"] = "function"


class Message(Struct):
    """One message, as it comes; fields that other servers add to their answers are ignored."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None


def meaning(one: Message, at: int) -> wire.Message:
    """Return what is put to the model.

    Args:
        one: The message.
        at: Its place, for errors.

    Raises:
        ApiError: It holds something other than text, or nothing.
    """
    param = f"messages[{at}]"
    if one.role == "function":
        message = f"{param} has the role 'function': results of calls have the role 'tool'"
        raise invalid(message, param=param, code="unsupported_parameter")
    if one.role == "tool" and not one.tool_call_id:
        message = f"{param} has no tool_call_id: expected the id of the call it is the result of"
        raise invalid(message, param=param)
    if one.tool_calls and one.role != "assistant":
        raise invalid(f"{param} has tool_calls, but is not of the assistant", param=param)
    return wire.Message(
        "system" if one.role == "developer" else one.role,
        _text(one, param),
        tuple(
            wire.ToolCall(call.id, call.function.name, call.function.arguments)
            for call in one.tool_calls or ()
        ),
        one.tool_call_id or "",
        one.name or "",
    )


def _text(one: Message, param: str) -> str:
    if isinstance(one.content, str):
        return one.content
    for part in one.content or []:
        if part.type not in {"text", "refusal"}:
            message = f"{param} has a part of type {part.type[:40]!r}: only text is supported"
            raise invalid(message, param=param, code="unsupported_parameter")
    if not one.content and not one.tool_calls:
        if one.role == "assistant" and one.refusal:
            return one.refusal
        raise invalid(f"{param} has no content: expected text", param=param)
    return "".join(part.text or part.refusal for part in one.content or [])
