"""A strict reader of ONNX models under limits: what a fleet has to know, without the library.

A model is a protobuf message, with its weights in it or in files beside it. Nothing is built from
it: names, types and sizes are read, elements are not; the file is read, not mapped. Files beside
the model are looked for by plain names in its own folder only, as they would be taken from
anywhere else by a name with `..` or by a link.

Whether the graph can be run is not checked here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sprat_proto.gguf_header import ModelFileError
from sprat_proto.opened import opened

from sprat_controller.publisher.formats.onnx_graph import (
    Node,
    OnnxValue,
    read_attribute,
    read_node,
    read_value,
    tensors_of_sparse,
)
from sprat_controller.publisher.formats.onnx_tensor import MAX_NAME_BYTES, OnnxTensor, read_tensor
from sprat_controller.publisher.formats.protobuf_reader import Field, ProtobufReader, Span

__all__ = ["ModelFileError", "OnnxFile", "OnnxTensor", "OnnxValue", "read"]

MAX_FIELDS: Final = 2_000_000  # some ten a node: far more than the largest graphs have
MAX_TENSORS: Final = 100_000
MAX_NAMES_LENGTH: Final = 8 << 20  # of all tensors
MAX_VALUES: Final = 4096  # inputs or outputs; a model with a cache has two a layer
MAX_OP_TYPES: Final = 1024
MAX_OPSETS: Final = 64
MAX_GRAPHS: Final = 4096
MAX_DEPTH: Final = 16  # of graphs in graphs
MAX_EXTERNAL_FILES: Final = 1024
_MAX_VERSION: Final = 1 << 16
# Types of weights; numbers of other types are shapes, indices and masks.
_WEIGHTS: Final = ("FLOAT", "BFLOAT", "DOUBLE", "INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2")


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What the model says."""

    ir_version: int
    opsets: Mapping[str, int]  # by domain; of ONNX itself ""
    producer: str  # name and version
    inputs: tuple[OnnxValue, ...]  # without those that an initializer gives a value
    outputs: tuple[OnnxValue, ...]
    tensors: tuple[OnnxTensor, ...]  # initializers, and the constants of nodes
    op_types: Mapping[str, int]  # how many nodes; of other domains than ONNX's as `domain.name`
    subgraphs: int
    packed: Mapping[str, int]  # weights in a tensor that is not what it seems; see `Node.packed`
    external: Mapping[str, int]  # files beside the model, and their bytes

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of all tensors, by type in small letters."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.dtype.lower()] += tensor.size
        return dict(sorted(sizes.items()))

    @property
    def parameters_by_type(self) -> dict[str, int]:
        """Numbers of weights, by the type of the tensors that have them."""
        numbers: Counter[str] = Counter()
        for tensor in self.tensors:
            if tensor.dtype.startswith(_WEIGHTS):
                numbers[tensor.dtype.lower()] += self.packed.get(tensor.name, tensor.elements)
        return dict(sorted(numbers.items()))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(self.parameters_by_type.values())


def read(path: Path) -> OnnxFile:
    """Read a model and check that its tensors lie in it or in files beside it.

    Raises:
        ModelFileError: It cannot be read, is not well formed, or is larger than the limits.
    """
    try:
        with opened(path) as file:
            model = _Model(ProtobufReader(file, MAX_FIELDS))
            model.read()
            model.check_packed()
            return model.result(_sizes_beside(path, model.tensors))
    except ModelFileError as error:
        raise ModelFileError(f"model file {path.name}: {error}") from error


def _sizes_beside(path: Path, tensors: Sequence[OnnxTensor]) -> dict[str, int]:
    ends: dict[str, int] = {}
    for tensor in tensors:
        if tensor.location:
            end = tensor.offset + tensor.size
            ends[tensor.location] = max(ends.get(tensor.location, 0), end)
    if len(ends) > MAX_EXTERNAL_FILES:
        raise ModelFileError(f"expected at most {MAX_EXTERNAL_FILES} files of data, found more")
    sizes: dict[str, int] = {}
    for name, end in sorted(ends.items()):
        sizes[name] = _size(path.parent, name)
        if sizes[name] < end:
            raise ModelFileError(f"expected {end} bytes or more in {name}, found {sizes[name]}")
    return sizes


def _size(folder: Path, name: str) -> int:
    """Return how many bytes a file in the folder has; a link must not lead out of it."""
    path = folder / name
    if not path.is_file() or Path(os.path.realpath(path)).parent != Path(os.path.realpath(folder)):
        raise ModelFileError(
            f"expected a file {name} beside the model and no link to elsewhere, found none"
        )
    return path.stat().st_size


class _Model:
    """One walk through a model; graphs within wait on a list, so that depth costs no stack."""

    def __init__(self, reader: ProtobufReader) -> None:
        self._reader = reader
        self._ir_version = 0
        self._producer = ["", ""]
        self._opsets: dict[str, int] = {}
        self._inputs: list[OnnxValue] = []
        self._outputs: list[OnnxValue] = []
        self._op_types: Counter[str] = Counter()
        self._packed: dict[str, int] = {}
        self._waiting: list[tuple[Span, int]] = []  # graphs with their depth
        self._graphs = 0
        self._names_left = MAX_NAMES_LENGTH
        self.tensors: list[OnnxTensor] = []

    def read(self) -> None:
        graph: Span | None = None
        for one in self._reader.fields(Span(0, self._reader.size), frozenset({1, 2, 3, 7})):
            graph = self._take(one) or graph
        if graph is None or not 0 < self._ir_version < _MAX_VERSION or not self._opsets:
            raise ModelFileError(
                "expected an ONNX model with an IR version, operator sets and a graph, found"
                f" version {self._ir_version}, {len(self._opsets)} sets and"
                f" {'no' if graph is None else 'a'} graph"
            )
        self._wait([graph], 0)
        while self._waiting:
            self._read_graph(*self._waiting.pop())

    def _take(self, one: Field) -> Span | None:
        """Take a field of the model; return where the graph is if it is that."""
        match one.number:
            case 1:
                self._ir_version = one.number_value()
            case 2 | 3:
                text = self._reader.text(one.message(), MAX_NAME_BYTES, "the producer")
                self._producer[one.number - 2] = text
            case 7:
                return one.message()
            case 8:
                self._take_opset(one.message())
            case 20:
                raise ModelFileError("expected a model for inference, found one with training")
            case 25:
                self._read_function(one.message())
            case _:
                pass  # what it is about, for people
        return None

    def _read_function(self, span: Span) -> None:
        for one in self._reader.fields(span):
            match one.number:
                case 7:
                    self._take_node(one.message(), 0)
                case 11:
                    defaults = Node()
                    read_attribute(self._reader, one.message(), defaults, {})
                    self._take_parts(defaults, 0)
                case _:
                    pass  # names

    def _take_opset(self, span: Span) -> None:
        domain, version = "", 0
        for one in self._reader.fields(span, frozenset({1, 2})):
            if one.number == 1:
                domain = self._reader.text(one.message(), MAX_NAME_BYTES, "an operator set")
            elif one.number == 2:  # noqa: PLR2004
                version = one.number_value()
        domain = "" if domain == "ai.onnx" else domain
        if domain in self._opsets or len(self._opsets) == MAX_OPSETS or version < 1:
            raise ModelFileError(
                f"expected up to {MAX_OPSETS} operator sets, each once and with a version,"
                f" found {domain[:64]!r} {version}"
            )
        self._opsets[domain] = version

    def _wait(self, graphs: Sequence[Span], depth: int) -> None:
        self._graphs += len(graphs)
        if graphs and (depth > MAX_DEPTH or self._graphs > MAX_GRAPHS):
            raise ModelFileError(
                f"expected at most {MAX_GRAPHS} graphs, {MAX_DEPTH} within each other, found more"
            )
        self._waiting += [(graph, depth) for graph in graphs]

    def _read_graph(self, span: Span, depth: int) -> None:
        names: set[str] = set()
        for one in self._reader.fields(span):
            match one.number:
                case 1:
                    self._take_node(one.message(), depth)
                case 5:
                    self._take_initializer(one.message(), names)
                case 11 if depth == 0:
                    self._take_value(one.message(), self._inputs)
                case 12 if depth == 0:
                    self._take_value(one.message(), self._outputs)
                case 15:
                    for tensor in tensors_of_sparse(self._reader, one.message()):
                        self._take_tensor(tensor)
                case _:
                    pass  # names, and types of what is computed on the way
        if depth == 0:
            self._inputs = [value for value in self._inputs if value.name not in names]

    def _take_value(self, span: Span, values: list[OnnxValue]) -> None:
        if len(values) == MAX_VALUES:
            raise ModelFileError(f"expected at most {MAX_VALUES} inputs or outputs, found more")
        values.append(read_value(self._reader, span))

    def _take_initializer(self, span: Span, names: set[str]) -> None:
        name = self._take_tensor(span).name
        if not name or name in names:
            raise ModelFileError(f"expected each initializer once by name, found {name[:64]!r}")
        names.add(name)

    def _take_tensor(self, span: Span) -> OnnxTensor:
        tensor = read_tensor(self._reader, span)
        self._charge(tensor.name)
        if len(self.tensors) == MAX_TENSORS:
            raise ModelFileError(f"expected at most {MAX_TENSORS} tensors, found more")
        self.tensors.append(tensor)
        return tensor

    def _charge(self, *names: str) -> None:
        """Count what names that are kept take."""
        self._names_left -= sum(len(name) for name in names)
        if self._names_left < 0:
            raise ModelFileError(
                f"expected at most {MAX_NAMES_LENGTH} characters of tensors' names, found more"
            )

    def _take_node(self, span: Span, depth: int) -> None:
        node = read_node(self._reader, span)
        self._op_types[node.op_type] += 1
        if len(self._op_types) > MAX_OP_TYPES:
            raise ModelFileError(f"expected at most {MAX_OP_TYPES} types of nodes, found more")
        self._packed |= node.packed
        self._charge(*node.packed)
        self._take_parts(node, depth)

    def _take_parts(self, node: Node, depth: int) -> None:
        for tensor in node.tensors:
            self._take_tensor(tensor)
        self._wait(node.graphs, depth + 1)

    def check_packed(self) -> None:
        """Check that no tensor is said to have more weights than bits."""
        for tensor in self.tensors:
            weights = self._packed.get(tensor.name, 0)
            if weights > 8 * tensor.size:
                raise ModelFileError(
                    f"expected {weights} packed weights in {tensor.name[:64]!r},"
                    f" found {tensor.size} bytes"
                )

    def result(self, external: Mapping[str, int]) -> OnnxFile:
        return OnnxFile(
            ir_version=self._ir_version,
            opsets=self._opsets,
            producer=" ".join(filter(None, self._producer)),
            inputs=tuple(self._inputs),
            outputs=tuple(self._outputs),
            tensors=tuple(self.tensors),
            op_types=dict(sorted(self._op_types.items())),
            subgraphs=self._graphs - 1,
            packed=self._packed,
            external=external,
        )
