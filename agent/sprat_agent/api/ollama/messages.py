"""The messages of a conversation, as Ollama writes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sprat_agent.api.faults import unsupported
from sprat_agent.runtime import wire


class _Function(Struct):
    name: str
    arguments: dict[str, Any] = {}


class _ToolCall(Struct):
    function: _Function


class Message(Struct):
    """One message, as it comes; `thinking` and fields that are not known are ignored."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    images: list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_name: str | None = None


def meaning(messages: Sequence[Message]) -> tuple[wire.Message, ...]:
    """Return what is put to the model.

    Ollama's calls have no ids: they get some here, and each result is that of the first call
    without one that has its name.

    Raises:
        ApiError: There are pictures.
    """
    open_calls: list[wire.ToolCall] = []
    made: list[wire.Message] = []
    for at, one in enumerate(messages):
        if one.images:
            raise unsupported(f"messages[{at}].images", "looking at pictures")
        calls = tuple(
            wire.ToolCall(
                f"call_{at}_{index}",
                call.function.name,
                msgspec.json.encode(call.function.arguments).decode(),
            )
            for index, call in enumerate(one.tool_calls or ())
        )
        open_calls += calls
        result_of = _answered(one, open_calls) if one.role == "tool" else ""
        made.append(
            wire.Message(one.role, one.content or "", calls, result_of, one.tool_name or "")
        )
    return tuple(made)


def _answered(result: Message, open_calls: list[wire.ToolCall]) -> str:
    """Take the call that a result is of from the open ones; return its id, or none."""
    for call in open_calls:
        if result.tool_name in {None, "", call.name}:
            open_calls.remove(call)
            return call.id
    return ""
