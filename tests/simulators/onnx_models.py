"""ONNX models byte by byte: protobuf messages, right or wrong in one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FLOAT, UINT8, INT32, INT64, STRING, FLOAT16, INT4 = 1, 2, 6, 7, 8, 10, 22
FLOATS, INT32S, STRINGS, INT64S, RAW = 4, 5, 6, 7, 9  # fields of a tensor


def varint(value: int) -> bytes:
    value %= 1 << 64
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field: a number, a text, or bytes that are a message or packed numbers."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(*numbered: tuple[int, int | str | bytes]) -> bytes:
    return b"".join(field(number, value) for number, value in numbered)


def packed(values: Iterable[int]) -> bytes:
    return b"".join(map(varint, values))


def tensor(
    name: str, kind: int, dims: Sequence[int], data: bytes = b"", *, place: int = RAW
) -> bytes:
    """Return a tensor whose elements are `data` in the field `place`."""
    body = field(1, packed(dims)) if dims else b""
    return body + fields((2, kind), (8, name)) + (field(place, data) if data else b"")


def external(name: str, kind: int, dims: Sequence[int], **where: str) -> bytes:
    """Return a tensor whose elements are in a file."""
    entries = [(13, fields((1, key), (2, value))) for key, value in where.items()]
    return tensor(name, kind, dims) + fields(*entries, (14, 1))


def value(name: str, kind: int, shape: Sequence[int | str | None] | None) -> bytes:
    """Return an input or output."""
    typed = field(1, kind)
    if shape is not None:
        dims = [(1, _dimension(dimension)) for dimension in shape]
        typed += field(2, fields(*dims))
    return fields((1, name), (2, field(1, typed)))


def _dimension(dimension: int | str | None) -> bytes:
    if dimension is None:
        return b""
    return field(1 if isinstance(dimension, int) else 2, dimension)


def node(op: str, inputs: Sequence[str] = (), *attributes: bytes, domain: str = "") -> bytes:
    named = [(1, name) for name in inputs]
    body = fields(*named, (2, "out"), (4, op), *[(5, one) for one in attributes])
    return body + (field(7, domain) if domain else b"")


def graph(
    nodes: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    inputs: Sequence[bytes] = (),
    outputs: Sequence[bytes] = (),
) -> bytes:
    parts = [(1, nodes), (5, tensors), (11, inputs), (12, outputs)]
    return fields((2, "graph"), *[(number, one) for number, ones in parts for one in ones])


def model(whole_graph: bytes, *more: tuple[int, int | str | bytes]) -> bytes:
    """Return a model of IR 10 and operator set 21."""
    opset = field(2, 21)
    return fields((1, 10), (2, "maker"), (3, "1.0"), (7, whole_graph), (8, opset), *more)


def branching(then: bytes) -> bytes:
    """Return a graph with one graph in it."""
    return graph([node("If", ["x"], fields((1, "then_branch"), (6, then)))])


def small_model() -> bytes:
    """Return a model with one of everything that a reader looks at."""
    multiply = node(
        "MatMulNBits",
        ["x", "weight_q4", "weight_scales"],
        fields((1, "K"), (3, 64)),
        fields((1, "N"), (3, 4)),
        domain="com.microsoft",
    )
    constant = node("Constant", [], fields((1, "value"), (5, tensor("", INT64, [2], b"\1" * 16))))
    inner = graph([node("Add", ["a", "b"])], [tensor("b", FLOAT, [1], b"\0" * 4)])
    branch = node("If", ["x"], fields((1, "then_branch"), (6, inner)))
    return model(
        graph(
            [multiply, constant, branch, node("Add", ["a", "b"])],
            [
                tensor("weight_q4", UINT8, [4, 2, 16], bytes(128)),
                tensor("weight_scales", FLOAT, [8], bytes(32)),
                tensor("norm", FLOAT16, [3], packed([1, 300, 65535]), place=INT32S),
                external("embedding", FLOAT, [4, 2], location="model.onnx.data", offset="8"),
            ],
            [value("x", FLOAT, ["batch", 64, None]), value("norm", FLOAT16, [3])],
            [value("y", FLOAT, None)],
        ),
        (8, fields((1, "com.microsoft"), (2, 1))),
        (14, fields((1, "note"), (2, "for people"))),
    )
