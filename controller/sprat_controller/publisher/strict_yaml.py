"""YAML that people write, read strictly: what is not expected is refused, with its line.

Only plain data of YAML 1.2's core schema: no tags, no anchors and aliases (a few lines of which
unfold to gigabytes), no key twice, no dates, and `no` is a word. Needs the extra `publish`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
import yaml

from sprat_controller import complaints

MAX_BYTES: Final = 64 << 10
MAX_DEPTH: Final = 8

_untyped: Any = yaml  # it declares half of its functions only

_T = TypeVar("_T")
_Lines: TypeAlias = dict[str, int]  # by msgspec's path, as `$.golden[0].prompt`


class StrictYamlError(ValueError):
    """The text is not what it should be; one sentence with its line."""


class _Loader(yaml.SafeLoader):
    """Plain data of the core schema."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _first in (
    ("null", r"(?:~|null|)", ["~", "n", ""]),
    ("bool", r"(?:true|false)", ["t", "f"]),
    ("int", r"-?(?:0|[1-9][0-9]{0,17})", list("-0123456789")),
    ("float", r"-?(?:0|[1-9][0-9]*)\.[0-9]+", list("-0123456789")),
):
    _Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType] - typed in part
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"{_form}\Z"), _first
    )


def decode(data: bytes, kind: type[_T], what: str) -> _T:
    """Return YAML as a value of a type.

    Args:
        data: UTF-8, at most `MAX_BYTES`.
        kind: A msgspec Struct.
        what: What it is called in errors, as `pipeline push.yaml`.

    Raises:
        StrictYamlError: The first thing that is wrong.
    """
    if len(data) > MAX_BYTES:
        raise StrictYamlError(f"{what}: expected at most {MAX_BYTES} bytes, found more")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise StrictYamlError(
            f"{what}: expected UTF-8, found another byte at {error.start}"
        ) from error
    try:
        _check_form(text, what)
        value, lines = _value(text, kind, what)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise StrictYamlError(f"{what}{line}: {error.problem or 'it is no YAML'}") from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise StrictYamlError(f"{what}: it is no YAML: {problem}") from error
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise StrictYamlError(f"{what}{_explained(str(error), lines)}") from error


def _check_form(text: str, what: str) -> None:
    """Refuse what is not plain data, before anything is built of it."""
    depth = documents = 0
    for event in _untyped.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise StrictYamlError(f"{what}, line {line}: expected no anchors and aliases (& and *)")
        if getattr(event, "tag", None):
            raise StrictYamlError(f"{what}, line {line}: expected no tags (!)")
        if depth > MAX_DEPTH:
            raise StrictYamlError(f"{what}, line {line}: expected at most {MAX_DEPTH} levels")
        if documents > 1:
            raise StrictYamlError(f"{what}, line {line}: expected one document, found another")


def _value(text: str, kind: type[object], what: str) -> tuple[object, _Lines]:
    loader: Any = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise StrictYamlError(f"{what}: expected keys with values, found none")
        lines: _Lines = {}
        _look_through(node, "$", msgspec.inspect.type_info(kind), lines, what)
        value: Any = loader.construct_document(node)
    finally:
        loader.dispose()
    return value, lines


def _look_through(node: yaml.Node, path: str, kind: Any, lines: _Lines, what: str) -> None:
    """Note the line of each value, and refuse keys that are unknown or there twice."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        _check_text(str(node.value), f"{what}, line {lines[path]}")
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _look_through(item, f"{path}[{number}]", _item_of(kind), lines, what)
    if not isinstance(node, yaml.MappingNode):
        return
    fields, seen = _fields_of(kind), set[str]()
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise StrictYamlError(f"{what}, line {line}: expected a word as key")
        name = str(key.value)
        if name in seen:
            raise StrictYamlError(f"{what}, line {line}: expected each key once, found {name!r}")
        if fields is not None and name not in fields:
            raise StrictYamlError(f"{what}, line {line}: {_unknown(name, path, list(fields))}")
        seen.add(name)
        below = fields[name] if fields is not None else _item_of(kind)
        _look_through(item, f"{path}.{name}", below, lines, what)


def _check_text(text: str, where: str) -> None:
    """Refuse what escapes can write and no file, path or message can hold."""
    wrong = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if wrong is not None:
        raise StrictYamlError(f"{where}: expected text, found the character {wrong!a}")


def _unknown(name: str, path: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    where = f" in {path[2:]}" if len(path) > 1 else ""
    if close:
        return f"there is no key {name[:64]!r}{where}: did you mean {close[0]!r}?"
    return f"there is no key {name[:64]!r}{where}: expected one of {', '.join(known)}"


def _kinds(kind: Any) -> Iterator[Any]:
    """Yield the types that a type allows."""
    if isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from _kinds(one)
    elif isinstance(kind, msgspec.inspect.Metadata):
        yield from _kinds(kind.type)
    else:
        yield kind


def _fields_of(kind: Any) -> dict[str, Any] | None:
    """Return the types of a struct's fields by their names; None if it is no struct."""
    for one in _kinds(kind):
        if isinstance(one, msgspec.inspect.StructType):
            return {field.encode_name: field.type for field in one.fields}
    return None


def _item_of(kind: Any) -> Any:
    """Return the type of what a list or a dictionary holds."""
    for one in _kinds(kind):
        if isinstance(one, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
            return one.item_type
        if isinstance(one, msgspec.inspect.DictType):
            return one.value_type
    return msgspec.inspect.AnyType()


def _explained(message: str, lines: _Lines) -> str:
    """Return msgspec's complaint as the end of a sentence, with its line."""
    path, said = complaints.read(message)
    key = f"{path[2:]}: " if len(path) > 1 else ""
    line = f", line {lines[path]}" if path in lines else ""
    return f"{line}: {key}{said}"
