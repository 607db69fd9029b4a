"""What messages consist of, as Anthropic writes it. Pure.

What the model thought (`thinking`) in earlier turns is left out; `cache_control` and other fields
of blocks that change nothing here are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from sprat_agent.api.faults import invalid, unsupported
from sprat_agent.runtime import wire

_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})


class Block(Struct):
    """One block, with the fields of all types that are known."""

    type: str
    text: str = ""
    # tool_use
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}
    # tool_result
    tool_use_id: str = ""
    content: str | list[Block] | None = None


class Message(Struct):
    """One turn."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


def meaning(
    system: str | Sequence[Block] | None, messages: Sequence[Message]
) -> tuple[wire.Message, ...]:
    """Return what is put to the model; a turn with results of calls becomes several messages.

    Raises:
        ApiError: A block is of a type that is not supported, or at a place where it cannot be.
    """
    told = _text(system or "", "system")
    made = [wire.Message("system", told)] if told else []
    for at, one in enumerate(messages):
        made += _turn(one, f"messages[{at}]")
    return tuple(made)


def _turn(one: Message, param: str) -> list[wire.Message]:
    if isinstance(one.content, str):
        return [wire.Message(one.role, one.content)]
    made: list[wire.Message] = []
    calls: list[wire.ToolCall] = []
    rest: list[Block] = []
    for block in one.content:
        match block.type:
            case "tool_use" if one.role == "assistant":
                arguments = msgspec.json.encode(block.input).decode()
                calls.append(wire.ToolCall(block.id, block.name, arguments))
            case "tool_result" if one.role == "user":
                made.append(_result(block, param))
            case "tool_use" | "tool_result":
                raise invalid(f"{param} of the {one.role} has a block {block.type}", param=param)
            case _:
                rest.append(block)
    text = _text(rest, param)
    if text or calls or not made:
        made.append(wire.Message(one.role, text, tuple(calls)))
    return made


def _result(block: Block, param: str) -> wire.Message:
    if not block.tool_use_id:
        message = f"{param} has a tool_result without tool_use_id: expected the call it is of"
        raise invalid(message, param=param)
    return wire.Message("tool", _text(block.content or "", param), tool_call_id=block.tool_use_id)


def _text(content: str | Sequence[Block], param: str) -> str:
    if isinstance(content, str):
        return content
    kept = [block for block in content if block.type not in _THOUGHTS]
    for block in kept:
        if block.type != "text":
            raise unsupported(param, f"a block of type {block.type[:40]!r}")
    return "".join(block.text for block in kept)
