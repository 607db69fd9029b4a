"""Messages and tools as chat templates know them: the dicts of OpenAI's API. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from sprat_agent.runtime.wire import Message, Tool, ToolCall

Turn: TypeAlias = dict[str, Any]


def turns(messages: Sequence[Message]) -> list[Turn]:
    """Return the messages; a key is there only if it says something, as templates look for keys."""
    return [_turn(message) for message in messages]


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


def _turn(message: Message) -> Turn:
    turn: Turn = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.name:
        turn["name"] = message.name
    return turn


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": parsed(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}
