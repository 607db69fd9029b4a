from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulators.model_files import entry, safetensors, with_header
from sprat_controller.publisher.formats import safetensors as reader
from sprat_controller.publisher.formats.safetensors import ModelFileError, SafetensorsTensor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def of(header: dict[str, Any], data: int = 0) -> bytes:
    return with_header(json.dumps(header).encode(), data)


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        reader.read(path)
    message = str(caught.value)
    assert message.startswith("model file model.safetensors: expected")
    assert message.isprintable()
    assert len(message) < 500
    return message


def test_tensors_are_read_in_the_order_of_their_data(path: Path) -> None:
    header = {
        "second": entry("F16", [2, 3], 4, 16),
        "__metadata__": {"format": "pt", "note": 'a "quoted" {brace}\u00e9'},
        "first": entry("F32", [], 0, 4),
        "none": entry("I64", [0, 7], 16, 16),
        "packed": entry("F4", [3, 2], 16, 19),
    }
    path.write_bytes(of(header, 19))
    file = reader.read(path)
    assert file.metadata == header["__metadata__"]
    assert file.tensors == (
        SafetensorsTensor("first", "F32", (), 0, 4),
        SafetensorsTensor("second", "F16", (2, 3), 4, 16),
        SafetensorsTensor("none", "I64", (0, 7), 16, 16),
        SafetensorsTensor("packed", "F4", (3, 2), 16, 19),
    )
    assert [tensor.elements for tensor in file.tensors] == [1, 6, 0, 6]
    assert file.data_offset + 19 == path.stat().st_size


def test_a_header_may_be_filled_up_with_spaces_and_written_with_any(path: Path) -> None:
    header = json.dumps({"x": entry("U8", [1], 0, 1)}, indent=2).encode() + b"     "
    path.write_bytes(with_header(header, 1))
    assert [tensor.name for tensor in reader.read(path).tensors] == ["x"]


def test_a_file_may_have_no_tensors(path: Path) -> None:
    path.write_bytes(with_header(b"{}"))
    assert reader.read(path).tensors == ()


def test_escapes_in_names_are_read_as_json_reads_them(path: Path) -> None:
    path.write_bytes(
        with_header(b'{"\\u0061\\n\\"":{"\\u0064type":"U8","shape":[1],"data_offsets":[0,1]}}', 1)
    )
    assert reader.read(path).tensors[0].name == 'a\n"'


ONE = '"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'


def text(header: str, data: int = 1) -> bytes:
    return with_header(header.encode(), data)


def field(**changed: str) -> bytes:
    """Return a file with one tensor, some of its fields written otherwise."""
    fields = {"dtype": '"U8"', "shape": "[1]", "data_offsets": "[0,1]"} | changed
    body = ",".join(f'"{key}":{value}' for key, value in fields.items() if value)
    return text(f'{{"x":{{{body}}}}}')


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "8 bytes or more"),
    "half a length": (b"\x02\0\0\0", "8 bytes or more"),
    "no header": (struct.pack("<Q", 0), "header of 2 to"),
    "longest length": (with_header(b"{}", length=(1 << 64) - 1), "header of 2 to"),
    "length over the limit": (
        with_header(b"{}", length=reader.MAX_HEADER_BYTES + 1),
        "header of 2 to",
    ),
    "length past the end": (with_header(b"{}", length=1000), "end of the file"),
    "another file": (b"GGUF\x03\0\0\0" + bytes(100), "header of 2 to"),
    "a list": (text("[]"), "begins with"),
    "a space first": (text(" {" + ONE + "}"), "begins with"),
    "a mark first": (with_header(b"\xef\xbb\xbf{}"), "begins with"),
    "no end": (text("{" + ONE), "','"),
    "no colon": (text('{"x"{}}'), "':'"),
    "a comma at the end": (text("{" + ONE + ",}"), "a text"),
    "something after it": (text("{" + ONE + "}x"), "nothing but spaces"),
    "newlines after it": (text("{" + ONE + "}\n"), "nothing but spaces"),
    "zeros after it": (text("{" + ONE + "}\0"), "nothing but spaces"),
    "a name twice": (text("{" + ONE + "," + ONE + "}"), "each name once"),
    "a name twice, spelled otherwise": (
        text("{" + ONE + "," + ONE.replace('"x"', '"\\u0078"') + "}"),
        "each name once",
    ),
    "metadata twice": (text('{"__metadata__":{},"__metadata__":{}}', 0), "each name once"),
    "a name that does not end": (text('{"x' + "y" * 1000), "a text of at most"),
    "a long name": (text(ONE.replace("x", "y" * 513).join("{}")), "a text of at most"),
    "a name that is not UTF-8": (with_header(b'{"\xff":{}}'), "UTF-8"),
    "half a surrogate": (with_header(b'{"\\ud800":{}}'), "UTF-8"),
    "a control character": (with_header(b'{"\n":{}}'), "a text"),
    "a name without quotes": (text("{x:{}}"), "a text"),
    "metadata as text": (text('{"__metadata__":"pt"}'), "'{'"),
    "metadata of nothing": (text('{"__metadata__":null}'), "'{'"),
    "metadata as number": (text('{"__metadata__":{"a":1}}'), "a text"),
    "metadata in metadata": (text('{"__metadata__":{"a":{}}}'), "a text"),
    "metadata key twice": (text('{"__metadata__":{"a":"1","a":"1"}}'), "each once"),
    "many metadata keys": (
        text(json.dumps({"__metadata__": {str(n): "" for n in range(5000)}})),
        "4096 metadata keys",
    ),
    "long metadata": (
        text(json.dumps({"__metadata__": {str(n): "x" * (1 << 20) for n in range(5)}})),
        "at most",
    ),
    "an entry that is none": (text('{"x":1}'), "dtype, shape and data_offsets"),
    "a long entry": (field(shape=" " * 1100 + "[1]"), "dtype, shape and data_offsets"),
    "nesting": (field(shape="[" * 900 + "]" * 900), "dtype, shape and data_offsets"),
    "nested objects": (text('{"x":' * 900 + "{}" + "}" * 900), "dtype, shape and data_offsets"),
    "no dtype": (field(dtype=""), "dtype, shape and data_offsets"),
    "no shape": (field(shape=""), "dtype, shape and data_offsets"),
    "no offsets": (field(data_offsets=""), "dtype, shape and data_offsets"),
    "another field": (field(more="1"), "dtype, shape and data_offsets"),
    "a field twice": (field(shape='[1],"shape":[1]'), "once"),
    "an unknown dtype": (field(dtype='"U7"'), "known dtype"),
    "a dtype in small letters": (field(dtype='"u8"'), "known dtype"),
    "a dtype as number": (field(dtype="8"), "dtype, shape and data_offsets"),
    "a negative dimension": (field(shape="[-1,-1]"), "dtype, shape and data_offsets"),
    "a fraction": (field(shape="[1.0]"), "dtype, shape and data_offsets"),
    "an exponent": (field(shape="[1e0]"), "dtype, shape and data_offsets"),
    "a dimension as text": (field(shape='["1"]'), "dtype, shape and data_offsets"),
    "a dimension as truth": (field(shape="[true]"), "dtype, shape and data_offsets"),
    "a dimension of nothing": (field(shape="[null]"), "dtype, shape and data_offsets"),
    "not a number": (field(shape="[NaN]"), "dtype, shape and data_offsets"),
    "a huge dimension": (field(shape=f"[{1 << 64}]"), "dtype, shape and data_offsets"),
    "a huge number": (field(shape=f"[{'9' * 900}]"), "dtype, shape and data_offsets"),
    "dimensions that wrap round": (field(shape=f"[{1 << 32},{1 << 32}]"), "bytes"),
    "many dimensions": (field(shape=f"{[1] * 17}"), "dtype, shape and data_offsets"),
    "three offsets": (field(data_offsets="[0,1,1]"), "dtype, shape and data_offsets"),
    "offsets the wrong way round": (
        text('{"x":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}'),
        "found -1 bytes",
    ),
    "half a byte": (of({"x": entry("F4", [1], 0, 1)}, 1), "4 bits"),
    "fewer bytes": (of({"x": entry("F32", [2], 0, 4)}, 4), "found 4 bytes"),
    "a gap": (of({"x": entry("U8", [1], 0, 1), "y": entry("U8", [1], 2, 3)}, 3), "at 1"),
    "a gap at first": (of({"x": entry("U8", [1], 1, 2)}, 2), "at 0"),
    "an overlap": (of({"x": entry("U8", [2], 0, 2), "y": entry("U8", [2], 1, 3)}, 3), "at 2"),
    "two in one place": (of({"x": entry("U8", [1], 0, 1), "y": entry("U8", [1], 0, 1)}, 1), "at 1"),
    "cut off": (of({"x": entry("U8", [2], 0, 2)}, 1), "2 bytes of data"),
    "a byte more": (of({"x": entry("U8", [2], 0, 2)}, 3), "2 bytes of data"),
    "data of nothing": (with_header(b"{}", 1), "0 bytes of data"),
}


@pytest.mark.parametrize(("data", "says"), BAD.values(), ids=BAD.keys())
def test_a_malformed_file_is_refused_in_one_sentence(path: Path, data: bytes, says: str) -> None:
    assert says in refused(path, data)


def test_the_number_of_tensors_has_a_limit(path: Path) -> None:
    header = {str(number): entry("U8", [0], 0, 0) for number in range(reader.MAX_TENSORS)}
    path.write_bytes(of(header))
    assert len(reader.read(path).tensors) == reader.MAX_TENSORS
    header["one more"] = entry("U8", [0], 0, 0)
    assert "at most 100000 tensors" in refused(path, of(header))


@pytest.mark.parametrize(
    "filling", [b"[],", b'"\xf0\x9f\x90\x9f",', b"{}", b'"x":{}', b"\\", b'"', b" ", b"[", b"{"]
)
def test_the_longest_header_costs_little_more_than_its_length(path: Path, filling: bytes) -> None:
    body = (b'{"x":' + filling * (reader.MAX_HEADER_BYTES // len(filling)))[
        : reader.MAX_HEADER_BYTES
    ]
    data = with_header(body)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            reader.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < reader.MAX_HEADER_BYTES + (1 << 20)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="expected a readable file, found: No such file"):
        reader.read(tmp_path / "missing")
    with pytest.raises(ModelFileError, match="expected a readable file, found: Is a directory"):
        reader.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="expected a regular file, found something else"):
        reader.read(tmp_path / "pipe")


shapes = st.dictionaries(
    st.text(max_size=20).filter(lambda name: name != "__metadata__"),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    max_size=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=shapes)
def test_whatever_was_written_is_read(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    path.write_bytes(safetensors(shapes))
    file = reader.read(path)
    assert {one.name: one.shape for one in file.tensors} == shapes
    assert file.metadata == {"format": "pt"}


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_file_cut_off_or_changed_is_refused_or_covered_whole(
    path: Path, data: st.DataObject
) -> None:
    good = bytearray(safetensors({"weight": (2, 3), "bias": (3,)}))
    at = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        del good[at:]
    else:
        good[at] = data.draw(st.integers(0, 255))
    path.write_bytes(good)
    try:
        file = reader.read(path)
    except ModelFileError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
    else:
        assert file.data_offset + max(one.end for one in file.tensors) == len(good)
