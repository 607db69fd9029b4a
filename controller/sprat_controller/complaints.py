"""What msgspec found wrong with a value, as people say it. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

_WHERE: Final = re.compile(r"(.*?)(?: - at (?:key in )?`(\$.*)`)?", re.DOTALL)
_TYPES: Final = re.compile(r"`([a-z | ]+)`")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[([0-9]+)\]")
_SHOWN: Final = 60  # characters of what was found
# What a person calls msgspec's types.
_WORDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "keys with values",
    "array": "a list",
    "null": "nothing",
}


def read(message: str) -> tuple[str, str]:
    """Return where a `msgspec.ValidationError` is, as `$.golden[0].prompt`, and what is wrong."""
    found = _WHERE.fullmatch(message)
    said, path = (found[1], found[2] or "$") if found else (message, "$")
    if unknown := _UNKNOWN.fullmatch(said):
        return path, f"there is no key {unknown[1][:_SHOWN]!r}"
    if missing := _MISSING.fullmatch(said):
        return path, f"expected the key {missing[1]!r}, found none"
    said = _TYPES.sub(lambda kinds: _in_words(kinds[1]), said).replace(", got ", ", found ")
    return path, f"{said[:1].lower()}{said[1:]}"


def with_found(message: str, value: object) -> tuple[str, str]:
    """Return as `read` does, with what stands there in the value if the message does not say it."""
    path, said = read(message)
    if not said.startswith("expected") or ", found " in said:
        return path, said
    return path, f"{said}, found {shown(at(value, path))}"


def shown(value: object) -> str:
    """Return what was found, not too long for a sentence."""
    found = repr(value)
    return found if len(found) <= _SHOWN else f"{found[:_SHOWN]}..."


def at(value: object, path: str) -> object:
    """Return what stands at a path without keys of dictionaries, as `$.golden[0].prompt`."""
    here: Any = value
    for step in _STEP.finditer(path.removeprefix("$")):
        here = here[step[1]] if step[1] is not None else here[int(step[2])]
    return here


def _in_words(kinds: str) -> str:
    names = [one for one in kinds.split(" | ") if one != "null"] or ["null"]
    return " or ".join(_WORDS.get(one, one) for one in names)
