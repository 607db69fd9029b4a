"""The nodes of an ONNX graph and its inputs and outputs: what is asked of them, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from sprat_proto.gguf_header import ModelFileError

from sprat_controller.publisher.formats.onnx_tensor import DATA_TYPES, MAX_NAME_BYTES
from sprat_controller.publisher.formats.protobuf_reader import ProtobufReader, Span

MAX_RANK: Final = 16
MAX_NODE_PARTS: Final = 4096  # inputs; or constants and graphs
MAX_ATTRIBUTES: Final = 256
_MAX_WEIGHTS: Final = 1 << 40
# Microsoft's operator on weights of 2 to 8 bits: inputs are A, packed B, scales, zero points.
_PACKING: Final = "com.microsoft.MatMulNBits"
# Operators on tables of angles (cosines, sines), which are computed and no weights: their inputs.
_TABLES: Final[Mapping[str, slice]] = {
    "com.microsoft.GroupQueryAttention": slice(7, 9),
    "com.microsoft.RotaryEmbedding": slice(2, 4),
    "RotaryEmbedding": slice(1, 3),
}
_KINDS: Final = {4: "SEQUENCE", 5: "MAP", 7: "OPAQUE", 8: "SPARSE_TENSOR", 9: "OPTIONAL"}

Dimension: TypeAlias = int | str | None  # a name stands for what is known at run time; None: any


@dataclass(frozen=True, slots=True)
class OnnxValue:
    """An input or output of a model."""

    name: str
    dtype: str  # of a tensor's elements; or which other kind of value it is
    shape: tuple[Dimension, ...] | None  # None: not known


@dataclass
class Node:
    """One node: the operator, and where its constants and graphs are."""

    op_type: str = ""  # of other domains than ONNX's as `domain.name`
    tensors: list[Span] = field(default_factory=list[Span])
    graphs: list[Span] = field(default_factory=list[Span])
    # How many weights are in an input that is not what it seems: those that it packs; 0 in scales,
    # zero points and tables.
    packed: dict[str, int] = field(default_factory=dict[str, int])


def read_node(reader: ProtobufReader, span: Span) -> Node:
    """Read a NodeProto.

    Raises:
        ModelFileError: It is not well formed.
    """
    node, inputs, domain = Node(), list[Span](), ""
    numbers: dict[str, int] = {}
    for one in reader.fields(span, frozenset({3, 4, 7})):
        match one.number:
            case 1:
                inputs.append(one.message())
            case 4:
                node.op_type = reader.text(one.message(), MAX_NAME_BYTES, "a node's operator")
            case 5:
                read_attribute(reader, one.message(), node, numbers)
            case 7:
                domain = reader.text(one.message(), MAX_NAME_BYTES, "a node's domain")
            case _:
                pass  # names, and what it is about
        if len(inputs) > MAX_NODE_PARTS:
            raise ModelFileError(f"expected at most {MAX_NODE_PARTS} inputs of a node, found more")
    if not node.op_type:
        raise ModelFileError(f"expected an operator of the node at byte {span.begin}, found none")
    if domain not in ("", "ai.onnx"):
        node.op_type = f"{domain}.{node.op_type}"
    node.packed = _packed(reader, node.op_type, inputs, numbers)
    return node


def _packed(
    reader: ProtobufReader, op_type: str, inputs: Sequence[Span], numbers: Mapping[str, int]
) -> dict[str, int]:
    if op_type != _PACKING:
        tables = inputs[_TABLES[op_type]] if op_type in _TABLES else ()
        return dict.fromkeys(_names(reader, tables), 0)
    names = _names(reader, inputs[1:4])
    weights = numbers.get("K", 0) * numbers.get("N", 0)
    if not names or not 0 < weights <= _MAX_WEIGHTS:
        raise ModelFileError(
            f"expected K x N weights in an input of {_PACKING}, found {len(names)} inputs of"
            f" {weights}"
        )
    return {names[0]: weights, **dict.fromkeys(names[1:], 0)}


def _names(reader: ProtobufReader, inputs: Sequence[Span]) -> list[str]:
    """Return the names of inputs, without those that are left out."""
    return [reader.text(one, MAX_NAME_BYTES, "a node's input") for one in inputs if one.size]


def read_attribute(reader: ProtobufReader, span: Span, node: Node, numbers: dict[str, int]) -> None:
    """Add to a node what an attribute of it has; to `numbers`, its number by its name.

    Raises:
        ModelFileError: It is not well formed.
    """
    name, number = "", None
    for one in reader.fields(span, frozenset({1, 3, 5, 6, 22})):
        match one.number:
            case 1:
                name = reader.text(one.message(), MAX_NAME_BYTES, "an attribute's name")
            case 3:
                number = one.number_value()
            case 5 | 10:
                node.tensors.append(one.message())
            case 6 | 11:
                node.graphs.append(one.message())
            case 22 | 23:
                node.tensors += tensors_of_sparse(reader, one.message())
            case _:
                pass  # values that are no weights
        if len(node.tensors) + len(node.graphs) > MAX_NODE_PARTS:
            raise ModelFileError(
                f"expected at most {MAX_NODE_PARTS} constants and graphs of a node, found more"
            )
    if number is not None:
        if len(numbers) == MAX_ATTRIBUTES:
            raise ModelFileError(f"expected at most {MAX_ATTRIBUTES} attributes, found more")
        numbers[name] = number


def tensors_of_sparse(reader: ProtobufReader, span: Span) -> list[Span]:
    """Return where the values and the indices of a SparseTensorProto are.

    Raises:
        ModelFileError: It is not well formed.
    """
    once = frozenset({1, 2})
    return [one.message() for one in reader.fields(span, once) if one.number in once]


def read_value(reader: ProtobufReader, span: Span) -> OnnxValue:
    """Read a ValueInfoProto.

    Raises:
        ModelFileError: It is not well formed.
    """
    name, dtype, shape = "", "", None
    for one in reader.fields(span, frozenset({1, 2})):
        if one.number == 1:
            name = reader.text(one.message(), MAX_NAME_BYTES, "an input's or output's name")
        elif one.number == 2:  # noqa: PLR2004 - the format's own number
            dtype, shape = _read_type(reader, one.message())
    if not name or not dtype:
        raise ModelFileError(
            f"expected a name and a type of each input and output, found {name[:64]!r} {dtype!r}"
        )
    return OnnxValue(name, dtype, shape)


def _read_type(reader: ProtobufReader, span: Span) -> tuple[str, tuple[Dimension, ...] | None]:
    """Return the kind of a TypeProto, whose own types are not looked at unless it is a tensor."""
    dtype, shape = "", None
    for one in reader.fields(span):
        if dtype and one.number in (1, *_KINDS):
            raise ModelFileError("expected one type of an input or output, found two")
        if one.number == 1:
            dtype, shape = _read_tensor_type(reader, one.message())
        elif one.number in _KINDS:
            dtype = _KINDS[one.number]
    return dtype, shape


def _read_tensor_type(
    reader: ProtobufReader, span: Span
) -> tuple[str, tuple[Dimension, ...] | None]:
    kind, shape = 0, None
    for one in reader.fields(span, frozenset({1, 2})):
        if one.number == 1:
            kind = one.number_value()
        elif one.number == 2:  # noqa: PLR2004 - the format's own number
            shape = _read_shape(reader, one.message())
    if kind not in DATA_TYPES:
        raise ModelFileError(f"expected a known type of an input or output, found {kind}")
    return DATA_TYPES[kind][0], shape


def _read_shape(reader: ProtobufReader, span: Span) -> tuple[Dimension, ...]:
    shape: list[Dimension] = []
    for one in reader.fields(span):
        if one.number != 1:
            continue
        if len(shape) == MAX_RANK:
            raise ModelFileError(f"expected at most {MAX_RANK} dimensions, found more")
        dimension: Dimension = None
        for part in reader.fields(one.message(), frozenset({1, 2})):
            if part.number == 1:
                number = part.number_value()
                dimension = number if number >= 0 else None  # -1: what some converters write
            elif part.number == 2:  # noqa: PLR2004 - the format's own number
                text = reader.text(part.message(), MAX_NAME_BYTES, "a dimension's name")
                dimension = text or None
        shape.append(dimension)
    return tuple(shape)
