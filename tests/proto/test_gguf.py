from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import gguf as reference
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulators import demo_model
from simulators.headers import (
    ARRAY,
    BOOL,
    DATA,
    F32,
    I32,
    PAIRS,
    STRING,
    TENSORS,
    U32,
    U64,
    array,
    build,
    pair,
    tensor,
    text,
)
from sprat_proto import gguf, tensor_types


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(gguf.ModelFileError) as caught:
        gguf.check(path)
    message = str(caught.value)
    assert message.startswith("model file model.gguf: expected")
    assert "found" in message or "at most" in message
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_a_plain_header_is_accepted_and_read(path: Path) -> None:
    path.write_bytes(build())
    file = gguf.check(path)
    assert file.architecture == "llama"
    assert file.metadata["tokenizer.ggml.add_bos_token"] is False
    assert file.arrays["tokenizer.ggml.tokens"].count == 3
    assert [one.name for one in file.tensors] == [
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
    ]
    assert file.tensors[0] == gguf.Tensor("token_embd.weight", (32, 3), "F32", 0, 384)
    assert file.data_start + DATA == file.size == len(build())


def test_facts_say_what_fit_needs(path: Path) -> None:
    path.write_bytes(build())
    facts = gguf.facts(path, "f32")
    assert facts.parameters == 32 * 3 + 32 + 32
    assert facts.weights_bytes == DATA
    assert (facts.layers, facts.embedding_length, facts.vocabulary) == (1, 32, 3)
    assert (facts.heads, facts.kv_heads, facts.key_length, facts.value_length) == (4, 2, 8, 8)
    assert facts.context_length == 128
    assert facts.quantization == "f32"


def test_a_file_of_the_reference_writer_reads_the_same_in_both(tmp_path: Path) -> None:
    path = demo_model.make(tmp_path / "model.gguf")
    ours, theirs = gguf.check(path), reference.GGUFReader(path)
    assert {one.name: (list(one.dims), one.size) for one in ours.tensors} == {
        one.name: ([int(dim) for dim in one.shape], int(one.n_bytes)) for one in theirs.tensors
    }
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert ours.data_start + mine.offset == int(other.data_offset)
    for key, value in ours.metadata.items():
        assert theirs.fields[key].contents() == value, key


def test_every_tensor_type_has_the_block_that_the_reference_has() -> None:
    for number, (name, block, size) in tensor_types.TENSOR_TYPES.items():
        kind = reference.GGMLQuantizationType(number)
        assert (kind.name, *reference.GGML_QUANT_SIZES[kind]) == (name, block, size)


BAD: dict[str, bytes] = {
    "nothing": b"",
    "another file": b"\x7fELF" + bytes(100),
    "half a magic": b"GG",
    "version 2": build(version=2),
    "big endian": build(version=3 << 24),
    "no tensors": build(tensors=[]),
    "tensor count": build(count=1 << 62),
    "key count": build(keys=1 << 62),
    "one key too many": build(keys=len(PAIRS) + 1),
    "one tensor too many": build(count=len(TENSORS) + 1),
    "data cut off": build(data=DATA - 1),
    "key twice": build({"again": PAIRS["block_count"]}),
    "empty key": build({"x": pair("", U32, 1)}),
    "key with a space": build({"x": pair("a b", U32, 1)}),
    "long key": build({"x": pair("k" * 257, U32, 1)}),
    "long string": build({"x": pair("x", STRING, "y" * (64 << 10) + "y")}),
    "string past the end": build({"x": text("x") + struct.pack("<IQ", STRING, 1 << 63)}),
    "unknown value type": build({"x": text("x") + struct.pack("<I", 99)}),
    "boolean 2": build({"x": pair("x", BOOL, 2)}),
    "not UTF-8": build({"x": text("x") + struct.pack("<IQ", STRING, 2) + b"\xff\xfe"}),
    "array too long": build({"x": text("x") + struct.pack("<IIQ", ARRAY, U32, 1 << 61)}),
    "array past the end": build({"x": text("x") + struct.pack("<IIQ", ARRAY, U32, 1_000_000)}),
    "array of arrays": build({"x": text("x") + struct.pack("<IIQ", ARRAY, ARRAY, 1)}),
    "tokens as numbers": build({"tokens": array("tokenizer.ggml.tokens", U32, [1, 2, 3])}),
    "no tokens": build({"tokens": array("tokenizer.ggml.tokens", STRING, [])}),
    "scores as integers": build({"x": array("tokenizer.ggml.scores", I32, [1, 2, 3])}),
    "fewer scores than tokens": build({"x": array("tokenizer.ggml.scores", F32, [1.0])}),
    "token id past the vocabulary": build({"eos": pair("tokenizer.ggml.eos_token_id", U32, 3)}),
    "token id as text": build({"eos": pair("tokenizer.ggml.eos_token_id", STRING, "2")}),
    "no tokenizer": build({"model": pair("x", U32, 1)}),
    "other architecture": build(
        {"general.architecture": pair("general.architecture", STRING, "mamba")}
    ),
    "architecture as number": build({"general.architecture": pair("general.architecture", U32, 1)}),
    "alignment 0": build({"x": pair("general.alignment", U32, 0)}),
    "alignment 24": build({"x": pair("general.alignment", U32, 24)}),
    "alignment of another type": build({"x": pair("general.alignment", U64, 32)}),
    "alignment as array": build({"x": array("general.alignment", U32, [32])}),
    "no blocks": build({"block_count": pair("llama.block_count", U32, 0)}),
    "too many blocks": build({"block_count": pair("llama.block_count", U32, 513)}),
    "more blocks than tensors": build({"block_count": pair("llama.block_count", U32, 2)}),
    "blocks as array": build({"block_count": array("llama.block_count", U32, [1])}),
    "no context": build({"context_length": pair("x", U32, 1)}),
    "no epsilon": build({"epsilon": pair("x", U32, 1)}),
    "epsilon is no number": build(
        {"epsilon": pair("llama.attention.layer_norm_rms_epsilon", F32, float("nan"))}
    ),
    "no heads": build({"head_count": pair("llama.attention.head_count", U32, 0)}),
    "heads that do not share": build({"head_count": pair("llama.attention.head_count", U32, 6)}),
    "odd key-value heads": build({"head_count_kv": pair("llama.attention.head_count_kv", U32, 3)}),
    "no key-value heads": build({"head_count_kv": pair("llama.attention.head_count_kv", U32, 0)}),
    "key-value heads as array": build(
        {"head_count_kv": array("llama.attention.head_count_kv", U32, [2])}
    ),
    "tensor twice": build(tensors=[*TENSORS, tensor("output_norm.weight", (32,), 640)], data=768),
    "long tensor name": build(tensors=[*TENSORS, tensor("n" * 64, (32,), 640)], data=768),
    "no dimensions": build(tensors=[*TENSORS, tensor("x", (), 640)], data=768),
    "five dimensions": build(tensors=[*TENSORS, tensor("x", (1, 1, 1, 1, 1), 640)], data=768),
    "dimension 0": build(tensors=[*TENSORS, tensor("x", (0,), 640)], data=768),
    "huge dimension": build(tensors=[*TENSORS, tensor("x", (1 << 63,), 640)], data=768),
    "product that overflows": build(
        tensors=[*TENSORS, tensor("x", (1 << 32, 1 << 32), 640)], data=768
    ),
    "unknown tensor type": build(tensors=[*TENSORS, tensor("x", (32,), 640, 4)], data=768),
    "half a block": build(tensors=[*TENSORS, tensor("x", (33,), 640, 8)], data=768),
    "overlap": build(tensors=[*TENSORS, tensor("x", (32,), 0)], data=768),
    "gap": build(tensors=[*TENSORS, tensor("x", (32,), 672)], data=1000),
    "offset that is not aligned": build(tensors=[*TENSORS, tensor("x", (32,), 641)], data=1000),
    "past the end": build(tensors=[*TENSORS, tensor("x", (1 << 20,), 640)], data=768),
    "no embedding": build(tensors=[TENSORS[1].replace(b"output", b"outpux")], data=DATA),
    "vocabulary of another size": build(
        {
            "tokens": array("tokenizer.ggml.tokens", STRING, ["a", "b", "c", "d"]),
            "types": array("tokenizer.ggml.token_type", I32, [1, 1, 1, 1]),
        }
    ),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_malformed_file_is_refused_in_one_sentence(path: Path, data: bytes) -> None:
    refused(path, data)


@pytest.mark.parametrize("kind", ["adapter", "mmproj", "line\nbreak" * 99])
def test_what_says_that_it_is_no_model_is_refused_as_what_it_is(path: Path, kind: str) -> None:
    message = refused(path, build({"type": pair("general.type", STRING, kind)}))
    assert f"expected a model (general.type), found '{kind[:4]}" in message


def test_a_model_may_say_that_it_is_one(path: Path) -> None:
    path.write_bytes(build({"type": pair("general.type", STRING, "model")}))
    assert gguf.check(path).metadata["general.type"] == "model"


def test_metadata_strings_are_bounded_together(path: Path) -> None:
    many = {str(n): pair(f"x{n}", STRING, "y" * (64 << 10)) for n in range(65)}
    assert "metadata strings" in refused(path, build(many))


def test_strings_of_all_arrays_are_bounded_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of holes has any number of empty strings for nothing; a reader looks at each."""
    monkeypatch.setattr("sprat_proto.gguf_header.MAX_STRINGS", 9)
    most = {name: array(name, STRING, [""] * 3) for name in ("x1", "x2")}  # beside three tokens
    path.write_bytes(build(most))
    assert gguf.check(path).arrays["x2"].count == 3
    one_more = build({**most, "x3": array("x3", STRING, [""])})
    assert "at most 9 strings in all arrays, found 10" in refused(path, one_more)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.gguf", tmp_path):
        with pytest.raises(gguf.ModelFileError, match="readable"):
            gguf.check(path)
    os.mkfifo(tmp_path / "pipe.gguf")  # nobody will ever write into it
    with pytest.raises(gguf.ModelFileError, match="found the end of the file"):
        gguf.check(tmp_path / "pipe.gguf")


@pytest.mark.parametrize("length", range(0, len(build()) - DATA, 7))
def test_a_file_cut_off_anywhere_is_refused(path: Path, length: int) -> None:
    refused(path, build()[:length])


# What tracemalloc may see beyond the header itself: a few strings of the longest allowed kind.
ALLOCATION_BOUND = 1 << 20


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A valid header with bytes changed, removed, repeated, or numbers replaced by extreme ones."""
    data = bytearray(build())
    end = len(data) - DATA
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, end - 1))
        change = draw(st.sampled_from(["byte", "u32", "u64", "remove", "repeat"]))
        if change == "byte":
            data[at] = draw(st.integers(0, 255))
        elif change == "u32":
            number = draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
            data[at : at + 4] = struct.pack("<I", number)
        elif change == "u64":
            number = draw(st.sampled_from([0, 1 << 31, 1 << 40, 1 << 63, (1 << 64) - 1]))
            data[at : at + 8] = struct.pack("<Q", number)
        elif change == "remove":
            del data[at : at + draw(st.integers(1, 40))]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        end = min(end, len(data))
    return bytes(data)


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=mutants() | st.binary(max_size=200).map(lambda tail: b"GGUF\x03\0\0\0" + tail))
def test_a_mutant_is_accepted_or_refused_within_bounds(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    tracemalloc.start()
    try:
        outcome = outcome_of(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < ALLOCATION_BOUND
    if isinstance(outcome, str):
        assert "\n" not in outcome
    else:
        end = max(one.offset + one.size for one in outcome.tensors)
        assert outcome.data_start + end <= len(data)


def outcome_of(path: Path) -> gguf.GgufFile | str:
    try:
        return gguf.check(path)
    except gguf.ModelFileError as error:
        return str(error)
