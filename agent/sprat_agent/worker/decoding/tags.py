"""Tool calls in tags: `<function=NAME><parameter=KEY>VALUE</parameter></function>`. Pure.

Values are not escaped: a text is there as it is, up to the tag that ends it; what is no text is
JSON. Which it is, the tool's schema says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from sprat_agent.runtime.wire import Tool, ToolCallPart
from sprat_agent.worker.decoding.stops import StopFilter

END: Final = "</parameter>"
_OPENING: Final = re.compile(r"<function=([^>]+)>|<parameter=([^>]+)>\n?|</function>")


def is_text(schema: Mapping[str, Any]) -> bool:
    """Tell whether values are written as they are: where a schema allows texts, or says nothing."""
    if "const" in schema:
        return isinstance(schema["const"], str)
    if "enum" in schema:
        return all(isinstance(one, str) for one in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return any(is_text(_mapping(one)) for one in schema[key])
    kind = schema.get("type", "" if "$ref" in schema else "string")
    return "string" in ([kind] if isinstance(kind, str) else kind)


def properties(tool: Tool) -> Mapping[str, Mapping[str, Any]]:
    """Return the schemas of a tool's parameters, by name; `true` says nothing of one."""
    return {name: _mapping(one) for name, one in tool.parameters.get("properties", {}).items()}


def _mapping(schema: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", schema) if isinstance(schema, dict) else {}


class TagReader:
    """Reads calls in tags; see `calls.CallReader`."""

    def __init__(self, tools: Sequence[Tool], new_id: Callable[[], str]) -> None:
        self._schemas = {tool.name: properties(tool) for tool in tools}
        self._new_id = new_id
        self._held = ""
        self._name = ""
        self._keys = 0  # of this call
        self._value: _Text | _Json | None = None  # that has begun
        self.count = 0

    def feed(self, text: str) -> tuple[ToolCallPart, ...]:
        """Return what more can be told."""
        self._held += text
        parts: list[ToolCallPart] = []
        while self._take(parts):
            pass
        return tuple(parts)

    def _take(self, parts: list[ToolCallPart]) -> bool:
        """Take a tag or some of a value; tell whether there may be more to take."""
        if self._value:
            self._tell(parts, self._value.feed(self._held))
            self._held = self._value.rest or ""
            if self._value.rest is None:
                return False
            self._value = None
            return True
        tag = _OPENING.search(self._held)
        if tag is None:
            return False
        if tag[2] and tag.end() == len(self._held) and tag[0].endswith(">"):
            return False  # a line break may follow, which is not of the value
        self._held = self._held[tag.end() :]
        if tag[1]:
            self._name, self._keys = tag[1], 0
            parts.append(ToolCallPart(self.count, self._new_id(), self._name))
            self.count += 1
            self._tell(parts, "{")
        elif tag[2]:
            comma = ", " if self._keys else ""
            self._keys += 1
            self._tell(parts, f"{comma}{_quoted(tag[2])}: ")
            schema = self._schemas.get(self._name, {}).get(tag[2], {})
            self._value = _Text() if is_text(schema) else _Json()
        else:
            self._tell(parts, "}")
        return True

    def _tell(self, parts: list[ToolCallPart], arguments: str) -> None:
        if arguments:
            parts.append(ToolCallPart(self.count - 1, arguments=arguments))


class _Text:
    """A text up to its tag, as JSON and as it comes; a line break before the tag is not of it."""

    def __init__(self) -> None:
        self._filter = StopFilter([f"\n{END}", END])
        self._opening = '"'
        self.rest: str | None = None  # what comes after it, once it is over

    def feed(self, text: str) -> str:
        """Return some of the value as JSON."""
        shown, closing = self._filter.feed(text), ""
        if self._filter.is_stopped:
            self.rest = self._filter.held.removeprefix("\n").removeprefix(END)
            closing = '"'
        opening, self._opening = self._opening, ""
        return opening + _quoted(shown)[1:-1] + closing


class _Json:
    """JSON up to its tag, as a whole: a text in it may contain such a tag, too."""

    def __init__(self) -> None:
        self._held = ""
        self.rest: str | None = None

    def feed(self, text: str) -> str:
        """Return the value, if it is whole."""
        self._held += text
        at = self._held.find(END)
        while at >= 0:
            value = self._held[:at].strip()
            if _is_json(value):
                self.rest = self._held[at + len(END) :]
                return value
            at = self._held.find(END, at + 1)
        return ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
