"""Messages and tools as chat templates know them: the dicts of OpenAI's API. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from sprat_agent.runtime.wire import Message, Tool, ToolCall

Turn: TypeAlias = dict[str, Any]


def turns(messages: Sequence[Message], id_length: int = 0) -> list[Turn]:
    """Return the messages; a key is there only if it says something, as templates look for keys.

    Args:
        messages: The conversation's.
        id_length: Templates of Mistral refuse ids of calls that are not of so many letters and
            digits: others are replaced by their digests. 0: any will do.
    """
    return [_turn(message, id_length) for message in messages]


def described(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return the tools as a request to OpenAI's API has them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            },
        }
        for tool in tools
    ]


def parsed(arguments: str) -> Any:
    """Return a call's arguments; as they are if they break off, as a cut answer leaves them."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _turn(message: Message, id_length: int) -> Turn:
    turn: Turn = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [_call(call, id_length) for call in message.tool_calls]
    if message.tool_call_id:
        turn["tool_call_id"] = _id(message.tool_call_id, id_length)
    if message.name:
        turn["name"] = message.name
    return turn


def _call(call: ToolCall, id_length: int) -> dict[str, Any]:
    function = {"name": call.name, "arguments": parsed(call.arguments)}
    return {"id": _id(call.id, id_length), "type": "function", "function": function}


def _id(given: str, length: int) -> str:
    if not length or (len(given) == length and given.isalnum()):
        return given
    return hashlib.sha256(given.encode()).hexdigest()[:length]
