"""YAML that people write, read strictly: what is not expected is refused, with its line.

Only plain data of YAML 1.2's core schema: no tags, no anchors and aliases (a few lines of which
unfold to gigabytes), no key twice, no dates, and `no` is a word. Needs the extra `publish`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec
import yaml

from sprat_controller import complaints

MAX_BYTES: Final = 64 << 10
MAX_DEPTH: Final = 8

_untyped: Any = yaml  # it declares half of its functions only

_T = TypeVar("_T")
_TAG: Final = "tag:yaml.org,2002:"
_ANY_KEY: Final = "[...]"  # how msgspec says that it is below some key of a dictionary


@dataclass(frozen=True)
class _Place:
    """What stands somewhere in the text, and what is to stand there."""

    line: int
    found: str
    is_word: bool  # neither a list nor keys with values
    kind: Any


_Places: TypeAlias = dict[str, _Place]  # by msgspec's path, as `$.golden[0].prompt`


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
        f"{_TAG}{_tag}", re.compile(rf"{_form}\Z"), _first
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
        value, places = _value(text, kind, what)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or "it is no YAML"
        if "'\\t'" in problem:
            problem = "expected spaces before and between words, found a tab"
        raise StrictYamlError(f"{what}{line}: {problem}") from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise StrictYamlError(f"{what}: it is no YAML: {problem}") from error
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message = str(error)
        said = _explained(message, _named(message, value, kind), places)
        raise StrictYamlError(f"{what}{said}") from error


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


def _value(text: str, kind: type[object], what: str) -> tuple[object, _Places]:
    loader: Any = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise StrictYamlError(f"{what}: expected keys with values, found {_shown(node)}")
        places: _Places = {}
        _look_through(node, "$", msgspec.inspect.type_info(kind), places, what)
        value: Any = loader.construct_document(node)
    finally:
        loader.dispose()
    return value, places


def _look_through(node: yaml.Node, path: str, kind: Any, places: _Places, what: str) -> None:
    """Note where each value is, and refuse keys that are unknown or there twice."""
    places[path] = _Place(
        node.start_mark.line + 1, _shown(node), isinstance(node, yaml.ScalarNode), kind
    )
    if isinstance(node, yaml.ScalarNode):
        _check_text(str(node.value), f"{what}, line {places[path].line}")
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _look_through(item, f"{path}[{number}]", _item_of(kind), places, what)
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
        _look_through(item, f"{path}.{name}", below, places, what)


def _check_text(text: str, where: str) -> None:
    """Refuse what escapes can write and no file, path or message can hold."""
    wrong = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if wrong is not None:
        raise StrictYamlError(f"{where}: expected text, found the character {wrong!a}")


def _unknown(name: str, path: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    where = f" in {_readable(path[2:])}" if len(path) > 1 else ""
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


def _shown(node: yaml.Node | None) -> str:
    """Return what stands in the text, as the end of a sentence."""
    match node:
        case None:
            return "none"
        case yaml.ScalarNode():
            plain = node.tag != f"{_TAG}str"
            return str(node.value) if plain else complaints.shown(node.value)
        case yaml.SequenceNode():
            return "a list"
        case _:
            return "keys with values"


def _named(message: str, value: object, kind: type[object]) -> str:
    """Return where a complaint is, with the keys of which msgspec only says that there are some.

    It is found by leaving all other keys out. The value is spent by it.
    """
    path, here = "", value
    *above, below = complaints.read(message)[0].split(_ANY_KEY)
    for part in above:
        entries = cast("dict[str, object]", complaints.at(here, part))
        name = next((one for one in [*entries] if _is_of(one, entries, message, value, kind)), "")
        path += f"{part}.{name}"
        here = entries.get(name)
    return path + below


def _is_of(
    name: str, entries: dict[str, object], message: str, value: object, kind: type[object]
) -> bool:
    """Tell whether a value that has only this one of the entries is refused with that message.

    Only then the other entries are left out.
    """
    kept = dict(entries)
    entries.clear()
    entries[name] = kept[name]
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if str(error) == message:
            return True
    entries.clear()
    entries.update(kept)
    return False


def _explained(message: str, path: str, places: _Places) -> str:
    """Return msgspec's complaint as the end of a sentence, with its line."""
    _, said = complaints.read(message)
    key = f"{_readable(path[2:])}: " if len(path) > 1 else ""
    place = places.get(path)
    if place is None:
        return f": {key}{said}"
    if said.startswith("invalid enum value"):
        said = f"expected {' or '.join(_choices(place.kind))}"
    if place.is_word and said.startswith("expected") and ", found " not in said:
        said = f"{said}, found {place.found}"
    return f", line {place.line}: {key}{said}"


def _choices(kind: Any) -> Iterator[str]:
    """Yield the values that a type lists."""
    for one in _kinds(kind):
        if isinstance(one, msgspec.inspect.LiteralType):
            yield from map(str, one.values)
        if isinstance(one, msgspec.inspect.EnumType):
            yield from (str(each.value) for each in one.cls)


def _readable(path: str) -> str:
    """Return a path whose keys cannot break the sentence that it stands in."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in path)
