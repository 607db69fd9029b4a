"""What an answer may be, in llguidance's dialect of Lark. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sprat_agent.runtime.wire import Tool
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.prompting.formats import ToolFormat

Schema: TypeAlias = dict[str, Any] | bool

# Small models may go on with white space for ever where a grammar lets them.
_SPACE: Final = r"\n?[ \t]{0,20}"
_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_NO_REFERENCE: Final = ("$schema", "$id")  # these name a schema; llguidance would look them up


def answer(schema: Schema) -> str:
    """Return the grammar of JSON that satisfies a schema; one that allows all: of any object.

    Raises:
        EngineError: not_supported: nothing satisfies it.
    """
    return f"start: {held_to(schema)}\n"


def held_to(schema: Schema) -> str:
    """Return the expression of JSON that satisfies a schema.

    Raises:
        EngineError: not_supported: nothing satisfies it, or it is nested too deep.
    """
    if schema is False:
        message = "expected a JSON schema that some answer satisfies, found false"
        raise EngineError("not_supported", message)
    asked = _OBJECT if schema is True or not schema else schema
    kept = {key: value for key, value in asked.items() if key not in _NO_REFERENCE}
    try:
        return "%json " + json.dumps({**kept, "x-guidance": {"whitespace_pattern": _SPACE}})
    except RecursionError as error:
        message = "expected a JSON schema, found one that is nested too deep"
        raise EngineError("not_supported", message) from error


@dataclass(frozen=True)
class Calls:
    """Which calls an answer may have."""

    form: ToolFormat
    tools: Sequence[Tool]
    is_parallel: bool = True


def only_calls(calls: Calls, tokens: Mapping[str, int]) -> str:
    """Return the grammar of at least one call.

    Args:
        calls: Which.
        tokens: The control tokens among the texts that are around calls.

    Raises:
        EngineError: not_supported: a tool's parameters are not an object's.
    """
    return "start: calls\n" + _calls(calls, tokens, is_marked=False)


def answer_or_calls(schema: Schema, calls: Calls, tokens: Mapping[str, int]) -> str:
    """Return the grammar of an answer by the schema, or else calls that cannot be taken for one.

    Raises:
        EngineError: not_supported.
    """
    rules = _calls(calls, tokens, is_marked=True)
    return f"start: answer | calls\nanswer: {held_to(schema)}\n{rules}"


def _calls(calls: Calls, tokens: Mapping[str, int], *, is_marked: bool) -> str:
    form = calls.form

    def text(literal: str) -> str:
        if not literal:
            return ""
        token = tokens.get(literal)
        return _quoted(literal) if token is None else f"<[{token}]>"

    opens = text(form.opens)
    if form.is_bare and not is_marked:
        opens = f"({opens})?"
    more = f"(SPACE? {text(form.between)} SPACE? call)*" if calls.is_parallel else ""
    # A line break after a call must not oblige to another one.
    loose = "SPACE?" if calls.is_parallel else ""
    closes = f"SPACE? {text(form.closes)}" if form.closes else loose
    names = " | ".join(f"call_{at}" for at in range(len(calls.tools)))
    ends = f"SPACE? {text(form.ends)}" if form.ends else ""
    rules = [
        r"SPACE: /\n[ \t]{0,20}|[ \t]{1,20}/",
        f"calls: {opens} SPACE? {text(form.bracket)} SPACE? call {more} {closes}",
        f"call: {text(form.begins)} SPACE? ({names}) {ends}",
        r'typed: "\"type\"" SPACE? ":" SPACE? "\"function\"" SPACE? "," SPACE?',
    ]
    for at, tool in enumerate(calls.tools):
        name, key = (
            _quoted(json.dumps(tool.name, ensure_ascii=False)),
            _quoted(f'"{form.arguments}"'),
        )
        rules += [
            (
                rf'call_{at}: "{{" SPACE? typed? "\"name\"" SPACE? ":" SPACE? {name} SPACE? ","'
                rf' SPACE? {key} SPACE? ":" SPACE? arguments_{at} SPACE? "}}"'
            ),
            f"arguments_{at}: {held_to(_parameters(tool))}",
        ]
    return "\n".join(rules) + "\n"


def _parameters(tool: Tool) -> Schema:
    """Return the schema of a tool's arguments, which are an object whether it says so or not."""
    kind = tool.parameters.get("type", "object")
    if kind != "object":
        message = f"expected the parameters of {tool.name!r} to be of type object, found {kind!r}"
        raise EngineError("not_supported", message)
    return {"type": "object", **tool.parameters}


def _quoted(literal: str) -> str:
    return json.dumps(literal, ensure_ascii=False)
