"""Functions that a model may call, as OpenAI writes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from sprat_agent.api.faults import invalid
from sprat_agent.runtime import wire

_MODES: Final = frozenset({"auto", "none", "required"})

FunctionName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class _Function(Struct):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None  # arguments always satisfy their schema here


class Tool(Struct):
    """One entry of `tools`."""

    type: Literal["function"]
    function: _Function


class _ChosenFunction(Struct):
    name: FunctionName


class OneChoice(Struct):
    """A `tool_choice` that names a function."""

    type: Literal["function"]
    function: _ChosenFunction


Choice: TypeAlias = Literal["auto", "none", "required"] | OneChoice | None


def offered(tools: Sequence[Tool] | None) -> tuple[wire.Tool, ...]:
    """Return the functions.

    Raises:
        ApiError: Two have the same name, or one is named as a mode of `tool_choice` is.
    """
    found = tuple(
        wire.Tool(one.function.name, one.function.description or "", one.function.parameters or {})
        for one in tools or ()
    )
    check_names(found)
    return found


def check_names(tools: Sequence[wire.Tool]) -> None:
    """Refuse names that cannot be told apart, among themselves or from the modes.

    Raises:
        ApiError: There is such a name.
    """
    seen: set[str] = set(_MODES)
    for one in tools:
        if one.name in seen:
            message = f"expected a name of its own for each tool, found {one.name!r} twice"
            if one.name in _MODES:
                message = f"a tool cannot be named {one.name!r}: tool_choice means something else"
            raise invalid(message, param="tools")
        seen.add(one.name)


def choice(wanted: Choice, tools: Sequence[wire.Tool]) -> str:
    """Return `auto`, `none`, `required` or the one function to call; `auto` without tools.

    Raises:
        ApiError: A call is wanted, but of no tool that is there.
    """
    name = wanted.function.name if isinstance(wanted, OneChoice) else wanted or "auto"
    return check_choice(name, tools)


def check_choice(name: str, tools: Sequence[wire.Tool]) -> str:
    """Return the choice; `name` is a mode, or the name of a function.

    Raises:
        ApiError: A call is wanted, but of no tool that is there.
    """
    if name == "required" and not tools:
        raise invalid("tool_choice requires a call, but there are no tools", param="tool_choice")
    if name not in _MODES and name not in {one.name for one in tools}:
        message = f"tool_choice names the function {name!r}, which is not among the tools"
        raise invalid(message, param="tool_choice")
    return name if tools else "auto"
