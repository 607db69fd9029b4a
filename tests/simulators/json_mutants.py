"""Mutants of JSON and of protobuf messages: they say something else, or are broken.

Which they are depends on the random numbers alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

from simulators.mutants import LONG_NUMBERS, NUMBERS, changed_bytes
from simulators.onnx_models import field, varint

# Stand for what `json` could not write itself.
_DEEP: Final = "<deep>"
_LONG: Final = "<long>"
DEPTHS: Final = (10, 100, 1000, 10_000)
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, -1, 0, 1, 2, 3, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 53),
    *(1 << 63, 1 << 64, -(1 << 63), 10**400, 10**4000, 0.5, 2.0, 1e30, -0.0),
    *(float("nan"), float("inf"), float("-inf")),
    *(
        "",
        "x",
        "2",
        "../model.safetensors",
        "/etc/passwd",
        "a\0b",
        "\x1b[2J",
        "\ud800",
        "\U0001f41f",
    ),
    *("x" * 200, [], {}, [1, 2], [[]], {"": {}}, [None], _DEEP, _LONG),
)


def changed_json(original: bytes, randomly: random.Random) -> bytes:
    """Return JSON with some values or keys changed, or one of four times, with bytes changed."""
    if randomly.random() < 1 / 4:
        return changed_bytes(original, randomly, keep=0)
    tree = json.loads(original)
    for _ in range(randomly.choice((1, 1, 1, 2, 3))):
        tree = _changed_value(tree, randomly)
    text = json.dumps(tree, ensure_ascii=randomly.random() < 0.5)
    depth = randomly.choice(DEPTHS)
    left, right = randomly.choice((("[", "]"), ('{"a":', "}"), ("[", "")))
    text = text.replace(f'"{_DEEP}"', left * depth + "1" * (left != "[") + right * depth)
    text = text.replace(f'"{_LONG}"', "9" * randomly.choice((5000, 100_000)))
    if randomly.random() < 0.1:
        text = _repeated_key(text, randomly)
    return text.encode("utf-8", "surrogatepass")


def _changed_value(tree: Any, randomly: random.Random) -> Any:
    """Change something in a tree, at any depth."""
    kind = type(tree).__name__
    keys: list[Any] = (
        list(tree) if kind == "dict" else list(range(len(tree))) if kind == "list" else []
    )
    if not keys or randomly.random() < 0.1:
        return deepcopy(randomly.choice(VALUES))
    key = randomly.choice(keys)
    match randomly.randrange(8):
        case 0:
            tree.pop(key)
        case 1 if kind == "dict":
            tree[randomly.choice(("", "x", "__metadata__", str(key) + " ", "\0"))] = tree.pop(key)
        case 2:
            other = randomly.choice(keys)
            tree[key], tree[other] = tree[other], tree[key]
        case 3 if type(tree[key]) is int:
            tree[key] += randomly.choice((-2, -1, 1, 2, 8))
        case _ if type(tree[key]) in (dict, list) and tree[key]:
            tree[key] = _changed_value(tree[key], randomly)
        case _:
            tree[key] = deepcopy(randomly.choice(VALUES))
    return tree


def _repeated_key(text: str, randomly: random.Random) -> str:
    """Say a key twice in one of the objects."""
    places = [at for at, character in enumerate(text) if character == "{"]
    at = randomly.choice(places) + 1 if places else 0
    key = text[at:].partition(":")[0]
    return f"{text[:at]}{key}:{randomly.choice(('1', 'null', '{}', '[]'))},{text[at:]}"


def changed_message(original: bytes, randomly: random.Random) -> bytes:
    """Return a message with some fields changed, or one of four times, with bytes changed."""
    if randomly.random() < 1 / 4:
        return changed_bytes(original, randomly, keep=0)
    for _ in range(randomly.choice((1, 1, 1, 2, 3))):
        original = _changed_fields(original, randomly)
    return original


def _changed_fields(data: bytes, randomly: random.Random) -> bytes:
    """Change a field of a message or of one in it, whose lengths stay right."""
    fields = _fields(data)
    if not fields:
        return data
    at = randomly.randrange(len(fields))
    number, content = fields[at]
    if isinstance(content, bytes) and randomly.random() < 0.8 and _fields(content):
        changed = [field(number, _changed_fields(content, randomly))]
    else:
        changed = randomly.choice(_FIELD_CHANGES)(number, content, randomly)
    others = [field(*one) for one in fields]
    return b"".join([*others[:at], *changed, *others[at + 1 :]])


def _fields(data: bytes) -> list[tuple[int, int | bytes]] | None:
    """Take a message of numbers and bytes apart, if it is one."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == 0:
            found.append((tag >> 3, value))
        elif tag & 7 == 2 and 0 <= value <= len(data) - at:
            found.append((tag >> 3, data[at : at + value]))
            at += value
        else:
            return None
        if not 0 < tag >> 3 < 100:
            return None
    return found if at == len(data) else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    return -1, at + 1


def _drop(_number: int, _content: int | bytes, _randomly: random.Random) -> list[bytes]:
    return []


def _repeat(number: int, content: int | bytes, randomly: random.Random) -> list[bytes]:
    return [field(number, content)] * randomly.choice((2, 2, 2, 100))


def _renumber(_number: int, content: int | bytes, randomly: random.Random) -> list[bytes]:
    return [field(randomly.choice((*range(1, 26), 1 << 20)), content)]


def _retype(number: int, content: int | bytes, randomly: random.Random) -> list[bytes]:
    """Write a number where bytes are expected, or the other way round, or what is neither."""
    other: int | bytes = len(content) if isinstance(content, bytes) else varint(content)
    kind = randomly.choice((1, 3, 4, 5, 6, 7))
    return [randomly.choice((field(number, other), varint(number << 3 | kind) + bytes(8)))]


def _revalue(number: int, content: int | bytes, randomly: random.Random) -> list[bytes]:
    if isinstance(content, int):
        near = content + randomly.choice((-1, 1, 2))
        return [field(number, randomly.choice((*NUMBERS, *LONG_NUMBERS, near, near, -1)))]
    texts = (b"", content + b"x", content[:-1], b"\xff" * 3, b"../x", b"x" * 2000, b"\x1b[2J")
    return [field(number, randomly.choice(texts))]


def _relength(number: int, content: int | bytes, randomly: random.Random) -> list[bytes]:
    """Say another length than there is."""
    data = content if isinstance(content, bytes) else b""
    length = randomly.choice((*LONG_NUMBERS, len(data) + 1, max(0, len(data) - 1)))
    return [varint(number << 3 | 2) + varint(length) + data]


def _nest(number: int, content: int | bytes, randomly: random.Random) -> list[bytes]:
    """Put a message into itself, again and again."""
    data = content if isinstance(content, bytes) else b""
    for _ in range(randomly.choice((2, 20, 50))):
        data += field(number, data[-2000:])
    return [field(number, data[-20_000:])]


def _nest_graphs(_number: int, _content: int | bytes, randomly: random.Random) -> list[bytes]:
    """Put graphs into graphs, as nodes with branches have them."""
    graph = b""
    for _ in range(randomly.choice((2, 15, 20, 200))):
        graph = field(1, field(4, "If") + field(5, field(6, graph)))
    return [graph]


_FIELD_CHANGES: Final[list[Callable[[int, int | bytes, random.Random], list[bytes]]]] = [
    *(_drop, _repeat, _renumber, _retype, _revalue, _revalue, _relength, _nest, _nest_graphs),
]
