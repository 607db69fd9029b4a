from __future__ import annotations

import os
import tracemalloc
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulators.onnx_models import (
    FLOAT,
    FLOAT16,
    FLOATS,
    INT4,
    INT32,
    INT32S,
    INT64,
    INT64S,
    STRING,
    STRINGS,
    branching,
    external,
    field,
    fields,
    graph,
    model,
    node,
    packed,
    small_model,
    tensor,
    value,
    varint,
)
from sprat_controller.publisher.formats import onnx, protobuf_reader
from sprat_controller.publisher.formats.onnx import ModelFileError, OnnxTensor, OnnxValue

DATA = "model.onnx.data"
ONE = tensor("w", FLOAT, [1], bytes(4))
# Field numbers of a model, and of a graph.
IR, GRAPH, OPSET, TRAINING, FUNCTION = 1, 7, 8, 20, 25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / DATA).write_bytes(bytes(40))
    return tmp_path / "model.onnx"


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        onnx.read(path)
    message = str(caught.value)
    assert message.startswith("model file model.onnx: expected")
    assert message.isprintable()
    assert len(message) < 600
    return message


def read(path: Path, data: bytes) -> onnx.OnnxFile:
    path.write_bytes(data)
    return onnx.read(path)


def test_what_a_model_says_is_read(path: Path) -> None:
    file = read(path, small_model())
    assert (file.ir_version, file.producer) == (10, "maker 1.0")
    assert file.opsets == {"": 21, "com.microsoft": 1}
    assert file.inputs == (OnnxValue("x", "FLOAT", ("batch", 64, None)),)
    assert file.outputs == (OnnxValue("y", "FLOAT", None),)
    assert file.op_types == {"Add": 2, "Constant": 1, "If": 1, "com.microsoft.MatMulNBits": 1}
    assert file.subgraphs == 1
    assert file.external == {DATA: 40}


def test_tensors_of_nodes_and_of_graphs_within_are_counted(path: Path) -> None:
    file = read(path, small_model())
    assert set(file.tensors) == {
        OnnxTensor("", "INT64", (2,), 16),
        OnnxTensor("weight_q4", "UINT8", (4, 2, 16), 128),
        OnnxTensor("weight_scales", "FLOAT", (8,), 32),
        OnnxTensor("norm", "FLOAT16", (3,), 6),
        OnnxTensor("embedding", "FLOAT", (4, 2), 32, DATA, 8),
        OnnxTensor("b", "FLOAT", (1,), 4),
    }
    assert file.bytes_by_type == {"float": 32 + 32 + 4, "float16": 6, "int64": 16, "uint8": 128}
    assert file.weights_bytes == 68 + 6 + 16 + 128


def test_packed_weights_are_counted_as_what_they_are(path: Path) -> None:
    file = read(path, small_model())
    # K x N weights, not the bytes that they are packed in; neither scales nor the node's integers.
    assert file.parameters_by_type == {"float": 8 + 1, "float16": 3, "uint8": 64 * 4}
    assert file.parameters == 9 + 3 + 256


def test_tables_of_angles_and_inputs_that_are_left_out_are_no_weights(path: Path) -> None:
    inputs = ["q", "", "", "", "", "", "", "cos", "sin"]
    attention = node("GroupQueryAttention", inputs, domain="com.microsoft")
    rotary = node("RotaryEmbedding", ["x", "", "positions"])
    constant = node("Constant", [], fields((1, "value"), (5, tensor("", FLOAT, [3], bytes(12)))))
    tables = [tensor(name, FLOAT, [8], bytes(32)) for name in ("q", "cos", "sin", "positions")]
    file = read(path, model(graph([attention, rotary, constant], tables)))
    assert file.packed == {"cos": 0, "sin": 0, "positions": 0}
    assert file.parameters == 8 + 3


def test_functions_and_sparse_tensors_are_counted(path: Path) -> None:
    sparse = fields(
        (1, tensor("values", FLOAT, [2], bytes(8))), (2, tensor("i", INT64, [2], bytes(16)))
    )
    default = fields((1, "bias"), (5, tensor("", FLOAT, [1], bytes(4))))
    body = fields((1, "Twice"), (7, node("Add")), (7, node("Add")), (11, default))
    file = read(path, model(graph([node("Twice")]) + field(15, sparse), (FUNCTION, body)))
    assert file.op_types == {"Add": 2, "Twice": 1}
    assert [one.size for one in file.tensors] == [4, 8, 16]


@pytest.mark.parametrize(
    ("kind", "dims", "data", "place", "size"),
    [
        (FLOAT, [2], bytes(8), FLOATS, 8),
        (INT32, [3], packed([1, -1, 300]), INT32S, 12),
        (INT64, [2], packed([-5, 1 << 40]), INT64S, 16),
        (FLOAT16, [2, 2], packed([1, 2, 3, 65535]), INT32S, 8),
        (INT4, [5], packed([1, 2, 255]), INT32S, 3),
        (INT4, [5], bytes(3), 9, 3),
        (14, [1], bytes(8), FLOATS, 8),
        (27, [5], bytes(4), 9, 4),
        (STRING, [1], b"abc", STRINGS, 3),
        (FLOAT, [], bytes(4), 9, 4),
        (FLOAT, [0, 7], b"", 9, 0),
    ],
)
def test_elements_may_be_where_the_format_has_them(  # noqa: PLR0917 - one case a row
    path: Path, kind: int, dims: list[int], data: bytes, place: int, size: int
) -> None:
    file = read(path, model(graph(tensors=[tensor("w", kind, dims, data, place=place)])))
    assert [one.size for one in file.tensors] == [size]


def test_numbers_may_be_written_one_by_one(path: Path) -> None:
    one_by_one = fields((1, 2), (1, 2), (2, INT32), (8, "w"), *[(INT32S, n) for n in range(4)])
    floats = fields((1, 1), (2, FLOAT), (8, "f")) + varint(FLOATS << 3 | 5) + bytes(4)
    file = read(path, model(graph(tensors=[one_by_one, floats])))
    assert [one.dims for one in file.tensors] == [(2, 2), (1,)]


def test_fields_that_are_not_known_are_passed_over(path: Path) -> None:
    unknown = varint(1000 << 3 | 1) + bytes(8) + varint(1001 << 3 | 5) + bytes(4) + field(1002, "x")
    assert read(path, model(graph()) + unknown * 2).subgraphs == 0


DEEP = reduce(lambda inner, _: branching(inner), range(onnx.MAX_DEPTH + 1), graph())
WIDE = graph([node("If", [], *[field(6, b"")] * 100)] * (onnx.MAX_GRAPHS // 100 + 1))


def of(*tensors: bytes) -> bytes:
    return model(graph(tensors=tensors))


def beside(**where: str) -> bytes:
    return of(external("w", FLOAT, [2], **where))


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "IR version"),
    "another file": (b"GGUF\x03\0\0\0" + bytes(100), "protobuf field"),
    "text": (b"{}", "protobuf field"),
    "no graph": (fields((IR, 10), (OPSET, field(2, 21))), "no graph"),
    "no version": (fields((GRAPH, graph()), (OPSET, field(2, 21))), "version 0"),
    "a negative version": (
        fields((IR, -1), (GRAPH, graph()), (OPSET, field(2, 21))),
        "version -1",
    ),
    "no operator sets": (fields((IR, 10), (GRAPH, graph())), "0 sets"),
    "two graphs": (model(graph(), (GRAPH, graph())), "field 7 once"),
    "two versions": (model(graph(), (IR, 10)), "field 1 once"),
    "an operator set twice": (
        model(graph(), (OPSET, fields((1, "ai.onnx"), (2, 20)))),
        "each once",
    ),
    "an operator set of no version": (model(graph(), (OPSET, field(1, "x"))), "with a version"),
    "training": (model(graph(), (TRAINING, b"")), "for inference"),
    "a graph as number": (fields((IR, 10), (GRAPH, 1), (OPSET, field(2, 21))), "bytes in field 7"),
    "a version as text": (fields((IR, "10"), (GRAPH, graph())), "a number in field 1"),
    "field 0": (model(graph()) + b"\x02\0", "protobuf field"),
    "a group": (model(graph()) + varint(9 << 3 | 3), "protobuf field"),
    "a field number too high": (model(graph()) + varint(1 << 32), "protobuf field"),
    "a number of 11 bytes": (model(graph()) + b"\x48" + b"\xff" * 10 + b"\1", "64 bits"),
    "a number over 64 bits": (model(graph()) + b"\x48" + b"\xff" * 9 + b"\x7f", "64 bits"),
    "a number cut off": (model(graph()) + b"\x48\xff", "64 bits"),
    "a length past the end": (
        model(graph()) + varint(9 << 3 | 2) + varint(1 << 62),
        "bytes in field 9",
    ),
    "8 bytes cut off": (model(graph()) + varint(9 << 3 | 1) + b"1234567", "8 bytes"),
    "a message past its own": (
        model(field(1, varint(1 << 3 | 2) + varint(20)) + field(2, "x" * 40)),
        "20 bytes in field 1",
    ),
    "graphs too deep": (model(DEEP), "within each other"),
    "graphs too many": (model(WIDE), "graphs"),
    "a node without operator": (model(graph([field(1, "x")])), "an operator"),
    "two operators": (model(graph([node("Add") + field(4, "Add")])), "field 4 once"),
    "an operator not in UTF-8": (model(graph([field(4, b"\xff")])), "UTF-8"),
    "a long operator": (model(graph([node("x" * 1025)])), "at most 1024 bytes"),
    "many operators": (model(graph([node(f"op{n}") for n in range(1025)])), "types of nodes"),
    "many inputs": (model(graph([node("Add", [""] * 5000)])), "inputs"),
    "many constants": (
        model(graph([node("X", [], field(10, b"") * 5000)])),
        "constants and graphs",
    ),
    "many graphs of a node": (
        model(graph([node("X", [], *[field(11, b"")] * 5000)])),
        "constants and graphs",
    ),
    "many default constants": (
        model(graph(), (FUNCTION, field(11, field(10, b"") * 5000))),
        "constants and graphs",
    ),
    "many numbers of a node": (
        model(graph([node("X", [], *[fields((1, f"a{n}"), (3, 1)) for n in range(300)])])),
        "attributes",
    ),
    "packed weights without numbers": (
        model(graph([node("MatMulNBits", ["a", "b"], domain="com.microsoft")])),
        "K x N",
    ),
    "more packed weights than bits": (
        model(
            graph(
                [
                    node(
                        "MatMulNBits",
                        ["a", "w"],
                        fields((1, "K"), (3, 1 << 20)),
                        fields((1, "N"), (3, 1 << 10)),
                        domain="com.microsoft",
                    )
                ],
                [ONE],
            )
        ),
        "packed weights",
    ),
    "a tensor of no type": (of(tensor("w", 0, [1], bytes(4))), "known type"),
    "a tensor of an unknown type": (of(tensor("w", 99, [1], bytes(4))), "known type"),
    "a tensor without a name": (of(tensor("", FLOAT, [1], bytes(4))), "each initializer once"),
    "a tensor twice": (of(ONE, ONE), "each initializer once"),
    "a negative dimension": (of(tensor("w", FLOAT, [-1], bytes(4))), "sensible dimensions"),
    "a huge dimension": (of(tensor("w", FLOAT, [(1 << 63) - 1], bytes(4))), "sensible dimensions"),
    "a huge product": (of(tensor("w", FLOAT, [1 << 32, 1 << 32], bytes(4))), "sensible dimensions"),
    "a product of nothing and much": (of(tensor("w", FLOAT, [0, 1 << 50])), "sensible dimensions"),
    "many dimensions": (of(tensor("w", FLOAT, [1] * 17, bytes(4))), "numbers"),
    "many dimensions one by one": (
        of(fields(*[(1, 1)] * 17, (2, FLOAT), (8, "w"), (9, bytes(4)))),
        "16 dimensions",
    ),
    "dimensions cut off": (of(field(1, b"\xff")), "64 bits"),
    "a segment": (of(ONE + field(3, b"")), "segment"),
    "no data": (of(tensor("w", FLOAT, [1])), "1 bytes or numbers"),
    "data of nothing": (of(tensor("w", FLOAT, [0], b"1234")), "0 bytes or numbers"),
    "less data": (of(tensor("w", FLOAT, [2], bytes(7))), "8 bytes or numbers"),
    "more data": (of(tensor("w", FLOAT, [2], bytes(9))), "8 bytes or numbers"),
    "fewer numbers": (
        of(tensor("w", INT32, [3], packed([1, 300]), place=INT32S)),
        "3 bytes or numbers",
    ),
    "half a number": (of(tensor("w", FLOAT, [1], bytes(5), place=FLOATS)), "numbers of 4 bytes"),
    "floats as numbers": (of(tensor("w", FLOAT, [1]) + field(FLOATS, 1)), "4 bytes in field 4"),
    "data in two places": (of(ONE + field(FLOATS, bytes(4))), "in field 9"),
    "data in another's place": (
        of(tensor("w", FLOAT, [1], packed([1]), place=INT64S)),
        "in field 4",
    ),
    "texts as raw data": (of(tensor("w", STRING, [1], b"abc")), "in field 6"),
    "data here and elsewhere": (
        of(ONE + fields((13, fields((1, "location"), (2, DATA))))),
        "in field 9",
    ),
    "data elsewhere and here": (
        of(external("w", FLOAT, [1], location=DATA) + field(9, bytes(4))),
        "in one place",
    ),
    "texts elsewhere": (of(external("w", STRING, [1], location=DATA)), "in one place"),
    "no location": (beside(offset="0"), "name of a file beside"),
    "a location above": (beside(location="../secret"), "name of a file beside"),
    "a location that is above": (beside(location=".."), "name of a file beside"),
    "a location at the root": (beside(location="/etc/passwd"), "name of a file beside"),
    "a location below": (beside(location="folder/data"), "name of a file beside"),
    "a location of another system": (beside(location="..\\data"), "name of a file beside"),
    "a location on a drive": (beside(location="c:data"), "name of a file beside"),
    "a location with a zero": (beside(location="model\0.data"), "name of a file beside"),
    "a location with an escape": (beside(location="\x1b[2J"), "name of a file beside"),
    "a long location": (beside(location="x" * 256), "at most 255 bytes"),
    "a location that is not there": (beside(location="other"), "no link to elsewhere"),
    "two locations": (
        of(
            external("w", FLOAT, [2], location=DATA) + field(13, fields((1, "location"), (2, DATA)))
        ),
        "each once",
    ),
    "a negative offset": (beside(location=DATA, offset="-1"), "15 digits"),
    "a huge offset": (beside(location=DATA, offset="9" * 16), "15 digits"),
    "an offset in letters": (beside(location=DATA, offset="0x10"), "15 digits"),
    "an offset in other digits": (beside(location=DATA, offset="\u0663"), "15 digits"),
    "an offset past the end": (beside(location=DATA, offset="33"), "41 bytes or more"),
    "another length": (beside(location=DATA, length="9"), "8 bytes of"),
    "a value without a name": (model(graph(inputs=[field(2, b"")])), "a name and a type"),
    "a value without a type": (model(graph(inputs=[field(1, "x")])), "a name and a type"),
    "a value of two types": (
        model(graph(inputs=[fields((1, "x"), (2, fields((1, field(1, 1)), (4, b""))))])),
        "one type",
    ),
    "a value of an unknown type": (model(graph(inputs=[value("x", 99, None)])), "known type"),
    "a value of many dimensions": (model(graph(inputs=[value("x", 1, [1] * 17)])), "16 dimensions"),
    "many values": (model(graph(outputs=[value("x", 1, None)] * 4097)), "4096 inputs"),
}


@pytest.mark.parametrize(("data", "says"), BAD.values(), ids=BAD.keys())
def test_a_malformed_model_is_refused_in_one_sentence(path: Path, data: bytes, says: str) -> None:
    assert says in refused(path, data)


def test_a_link_must_not_lead_out_of_the_folder(
    path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_bytes(bytes(100))
    link = path.parent / "link"
    link.symlink_to(secret)
    assert "no link to elsewhere" in refused(path, beside(location="link"))
    link.unlink()
    link.symlink_to(link)
    assert "no link to elsewhere" in refused(path, beside(location="link"))
    link.unlink()
    link.symlink_to(DATA)
    assert read(path, beside(location="link")).external == {"link": 40}


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_data_must_be_in_a_file(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path.parent / "data")
    else:
        (path.parent / "data").mkdir()
    assert "no link to elsewhere" in refused(path, beside(location="data"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="expected a readable file, found: No such file"):
        onnx.read(tmp_path / "missing")
    with pytest.raises(ModelFileError, match="expected a readable file, found: Is a directory"):
        onnx.read(tmp_path)


def test_a_file_longer_than_a_protobuf_message_is_refused_unread(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(protobuf_reader.MAX_BYTES + 1)
    with pytest.raises(ModelFileError, match=r"at most 2147483648 bytes, found 2147483649"):
        onnx.read(path)


def test_the_work_has_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MAX_FIELDS", 10_000)
    assert "at most 10000 fields" in refused(path, model(field(1, field(4, "Add")) * 10_000))


def test_names_have_a_limit_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MAX_NAMES_LENGTH", 20_000)
    many = [tensor(f"{n:01000}", FLOAT, [0]) for n in range(21)]
    assert "characters of tensors' names" in refused(path, of(*many))


def test_tensors_have_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MAX_TENSORS", 20)
    many = [tensor(str(n), FLOAT, [0]) for n in range(21)]
    assert "at most 20 tensors" in refused(path, of(*many))


def test_a_model_with_its_weights_in_it_costs_no_more_than_one_without(path: Path) -> None:
    heavy = tensor("w", INT32, [8 << 20], bytes(8 << 20), place=INT32S)
    path.write_bytes(of(heavy, tensor("v", FLOAT, [4 << 20], bytes(16 << 20))))
    tracemalloc.start()
    try:
        file = onnx.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.weights_bytes == (32 << 20) + (16 << 20)
    assert peak < 1 << 20


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_model_cut_off_or_changed_is_read_or_refused(path: Path, data: st.DataObject) -> None:
    good = bytearray(small_model())
    at = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        del good[at:]
    else:
        good[at] = data.draw(st.integers(0, 255))
    path.write_bytes(good)
    try:
        file = onnx.read(path)
    except ModelFileError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
    else:
        inside = [one.size for one in file.tensors if not one.location]
        # A number in a tensor takes a byte or more and counts for up to 8.
        assert sum(inside) <= 8 * len(good)
