"""What an answer may be, in llguidance's dialect of Lark. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeAlias, cast

from sprat_agent.runtime.wire import Tool
from sprat_agent.worker.decoding import tags
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.prompting.formats import ToolFormat, Writing

Schema: TypeAlias = dict[str, Any] | bool

# Small models may go on with white space for ever where a grammar lets them.
_SPACE: Final = r"\n?[ \t]{0,20}"
_LOWER: Final = ("minimum", "exclusiveMinimum")
_UPPER: Final = ("maximum", "exclusiveMaximum")
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_DEFINITIONS: Final = ("$defs", "definitions")  # what references in a schema's parts point to
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
        EngineError: not_supported: nothing satisfies it, it is nested too deep, or has numbers that
            are too large to be held to.
    """
    if schema is False:
        message = "expected a JSON schema that some answer satisfies, found false"
        raise EngineError("not_supported", message)
    asked = _OBJECT if schema is True or not schema else schema
    kept = {key: value for key, value in asked.items() if key not in _NO_REFERENCE}
    try:
        _check_numbers(kept)
        return "%json " + json.dumps({**kept, "x-guidance": {"whitespace_pattern": _SPACE}})
    except RecursionError as error:
        message = "expected a JSON schema, found one that is nested too deep"
        raise EngineError("not_supported", message) from error


def _check_numbers(part: Any) -> None:
    """Refuse what llguidance would round, and then not hold an answer to.

    It takes numbers for floats, and bounds for 64 bits beyond which there are none.

    Raises:
        EngineError: not_supported.
    """
    if isinstance(part, list):
        for one in cast("list[Any]", part):
            _check_numbers(one)
    if not isinstance(part, dict):
        return
    for key, one in cast("dict[str, Any]", part).items():
        is_lost = False
        if isinstance(one, int | float):
            kept = max(min(_as_float(one), _MOST), _LEAST)
            is_lost = (key in _LOWER and kept < one) or (key in _UPPER and kept > one)
        is_listed = key == "enum" and isinstance(one, list)
        values = cast("list[Any]", one if is_listed else [one] if key == "const" else [])
        is_lost |= any(isinstance(value, int) and _as_float(value) != value for value in values)
        if is_lost:
            message = f"this engine cannot hold an answer to {key!r} of so large a number exactly"
            raise EngineError("not_supported", message)
        _check_numbers(one)


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf


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
    if form.writing is Writing.TAGS:
        rules.append(f"text[suffix={_quoted(tags.END)}]: /(?s:.*)/")
    for at, tool in enumerate(calls.tools):
        match form.writing:
            case Writing.OBJECT:
                rules += _object(at, tool, form.arguments)
            case Writing.MARKED:
                with_id = f"({text(form.call_id)} /[A-Za-z0-9]{{1,40}}/)?" if form.call_id else ""
                head = f"{_quoted(tool.name)} {with_id} {text(form.arguments)}"
                rules += [f"call_{at}: {head} SPACE? arguments_{at}", _arguments(at, tool)]
            case Writing.TAGS:
                try:
                    rules += _tags(at, tool)
                except (AttributeError, RecursionError, TypeError) as error:
                    message = f"expected a JSON schema as the parameters of {tool.name!r}: {error}"
                    raise EngineError("not_supported", message) from error
    return "\n".join(rules) + "\n"


def _object(at: int, tool: Tool, arguments: str) -> list[str]:
    """Return the rules of a call that is an object of a name and arguments."""
    name, key = _quoted(json.dumps(tool.name, ensure_ascii=False)), _quoted(f'"{arguments}"')
    return [
        (
            rf'call_{at}: "{{" SPACE? typed? "\"name\"" SPACE? ":" SPACE? {name} SPACE? ","'
            rf' SPACE? {key} SPACE? ":" SPACE? arguments_{at} SPACE? "}}"'
        ),
        _arguments(at, tool),
    ]


def _tags(at: int, tool: Tool) -> list[str]:
    """Return the rules of a call in tags: those of the schema's parameters, in its order.

    Of texts, only whether they are one of an `enum` is held to: they are written as they are, and
    end where their tag does.
    """
    schema = _parameters(tool)
    required = schema.get("required", ())
    shared = {key: schema[key] for key in _DEFINITIONS if key in schema}
    rules: list[str] = []
    parameters = ""
    if unsaid := next((one for one in (tool.name, *tags.properties(tool)) if ">" in one), ""):
        message = f"expected names without > for this model's tools, found {unsaid!r}"
        raise EngineError("not_supported", message)
    for number, (name, one) in enumerate(tags.properties(tool).items()):
        rule = f"parameter_{at}_{number}"
        parameters += f" (SPACE? {rule})" + ("" if name in required else "?")
        rules.append(f"{rule}: {_quoted(f'<parameter={name}>')} {_value(one, shared)}")
    begin, end = _quoted(f"<function={tool.name}>"), _quoted("</function>")
    return [f"call_{at}: {begin}{parameters} SPACE? {end}", *rules]


def _value(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """Return the expression of a value in tags, with the tag that ends it."""
    end = _quoted(tags.END)
    if not tags.is_text(schema):
        return f"SPACE? {held_to({**schema, **shared})} SPACE? {end}"
    texts: Sequence[Any] = [schema["const"]] if "const" in schema else schema.get("enum", ())
    if texts:
        return rf'"\n"? ({" | ".join(map(_quoted, texts))}) "\n"? {end}'
    return "text"


def _arguments(at: int, tool: Tool) -> str:
    return f"arguments_{at}: {held_to(_parameters(tool))}"


def _parameters(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments, which are an object whether it says so or not."""
    kind = tool.parameters.get("type", "object")
    if kind != "object":
        message = f"expected the parameters of {tool.name!r} to be of type object, found {kind!r}"
        raise EngineError("not_supported", message)
    return {"type": "object", **tool.parameters}


def _quoted(literal: str) -> str:
    return json.dumps(literal, ensure_ascii=False)
