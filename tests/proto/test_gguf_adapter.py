"""An adapter is accepted only if llama.cpp can add it to the very model it comes with."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators import models
from simulators.headers import F32, I32, PAIRS, STRING, array, build, pair, tensor
from sprat_proto import gguf, gguf_adapter

MATRIX = "blk.0.ffn_down.weight"  # 128 wide, 64 high
EMBEDDING = "token_embd.weight"  # 64 wide, 258 high
ADAPTER_PAIRS = {
    "architecture": pair("general.architecture", STRING, "llama"),
    "role": pair("general.type", STRING, "adapter"),
    "adapter": pair("adapter.type", STRING, "lora"),
    "alpha": pair("adapter.lora.alpha", F32, 8.0),
}
Tensors = list[tuple[str, tuple[int, ...]]]


def factors(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Tensors:
    return [(f"{name}.lora_a", a), (f"{name}.lora_b", b)]


GOOD = factors(MATRIX, (128, 4), (4, 64))


def written(
    path: Path,
    tensors: Tensors,
    pairs: dict[str, bytes] | None = None,
    *,
    kind: int = 0,
) -> Path:
    """Write a header with tensors of F32 and what makes an adapter, but for `pairs`."""
    described: list[bytes] = []
    end = 0
    for name, dims in tensors:
        described.append(tensor(name, dims, end, kind))
        end += -(-4 * math.prod(dims) // 32) * 32
    replaced = {**dict.fromkeys(PAIRS, b""), **ADAPTER_PAIRS, **(pairs or {})}
    count = sum(bool(one) for one in replaced.values())
    path.write_bytes(build(replaced, described, keys=count, data=end))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> gguf.GgufFile:
    (path,) = models.write_model(tmp_path_factory.mktemp("base") / "model.gguf")
    return gguf.check(path)


def refused(path: Path, base: gguf.GgufFile) -> str:
    with pytest.raises(gguf.ModelFileError) as caught:
        gguf_adapter.check(path, [base], "polite")
    message = str(caught.value)
    assert message.startswith("adapter polite: ")
    assert "expected" in message
    assert "found" in message
    assert len(message) < 400
    return message


def test_what_the_reference_writer_writes_fits_its_model(tmp_path: Path) -> None:
    (model,) = models.write_model(tmp_path / "model.gguf")
    path = models.write_adapter(tmp_path / "adapter.gguf", model, 1)
    gguf_adapter.check(path, [gguf.check(model)], "polite")


def test_a_split_model_has_the_tensors_of_all_its_files(tmp_path: Path) -> None:
    files = models.write_model(tmp_path / "model.gguf", models.Shape(shards=3))
    assert len(files) == 3
    (whole,) = models.write_model(tmp_path / "whole.gguf")
    path = models.write_adapter(tmp_path / "adapter.gguf", whole, 1)
    gguf_adapter.check(path, [gguf.read(one) for one in files], "polite")


@pytest.mark.parametrize(
    "tensors",
    [
        GOOD,
        GOOD[::-1],
        [*GOOD, *factors("output.weight", (64, 1), (1, 258))],
        factors(EMBEDDING, (8, 258), (8, 64)),  # looked up by row
    ],
)
def test_factors_that_fit_are_accepted(
    tmp_path: Path, base: gguf.GgufFile, tensors: Tensors
) -> None:
    gguf_adapter.check(written(tmp_path / "adapter.gguf", tensors), [base], "polite")


BAD_TENSORS: dict[str, tuple[Tensors, str]] = {
    "another tensor": ([*GOOD, ("output_norm.weight", (64,))], "found 'output_norm.weight'"),
    "a alone": (GOOD[:1], "lora_b beside"),
    "b alone": (GOOD[1:], "lora_a beside"),
    "another model's": (factors("blk.9.ffn_down.weight", (128, 4), (4, 64)), "another model's"),
    "of a vector": (factors("output_norm.weight", (64, 4), (4, 1)), "expected a matrix"),
    "width": (factors(MATRIX, (64, 4), (4, 64)), r"(128, 4) and (4, 64) for (128, 64)"),
    "height": (factors(MATRIX, (128, 4), (4, 128)), "found (128, 4) and (4, 128)"),
    "ranks": (factors(MATRIX, (128, 4), (8, 64)), "found (128, 4) and (8, 64)"),
    "transposed": (factors(MATRIX, (4, 128), (64, 4)), "found (4, 128) and (64, 4)"),
    "more dimensions": (factors(MATRIX, (128, 4, 2), (4, 64, 2)), "found (128, 4, 2)"),
    "a vector": (factors(MATRIX, (128,), (4, 64)), "found 0"),
    "rank": (factors(MATRIX, (128, 1025), (1025, 64)), "rank of 1 to 1024, found 1025"),
    "embedding": (factors(EMBEDDING, (64, 4), (4, 258)), "found (64, 4) and (4, 258)"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_factors_that_do_not_fit_are_refused(
    tmp_path: Path, base: gguf.GgufFile, name: str
) -> None:
    tensors, why = BAD_TENSORS[name]
    assert why in refused(written(tmp_path / "adapter.gguf", tensors), base)


def test_an_embedding_that_is_also_the_output_has_no_adapter(
    tmp_path: Path, base: gguf.GgufFile
) -> None:
    tied = tuple(one for one in base.tensors if one.name != "output.weight")
    path = written(tmp_path / "adapter.gguf", factors(EMBEDDING, (8, 258), (8, 64)))
    assert "the same tensor" in refused(path, replace(base, tensors=tied))


BAD_PAIRS: dict[str, tuple[dict[str, bytes], str]] = {
    "a model": ({"role": pair("general.type", STRING, "model")}, "general.type"),
    "no type": ({"role": b""}, "found None"),
    "a control vector": ({"adapter": pair("adapter.type", STRING, "cvec")}, "found 'cvec'"),
    "architecture": ({"architecture": pair("general.architecture", STRING, "qwen3")}, "'llama'"),
    "no scale": ({"alpha": b""}, "adapter.lora.alpha"),
    "a scale of 0": ({"alpha": pair("adapter.lora.alpha", F32, 0.0)}, "above 0, found 0.0"),
    "no number": ({"alpha": pair("adapter.lora.alpha", F32, math.nan)}, "found nan"),
    "an integer": ({"alpha": pair("adapter.lora.alpha", I32, 8)}, "value type 6"),
    "on by tokens": ({"on": array("adapter.alora.invocation_tokens", I32, [1])}, "turn on"),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_metadata_of_another_kind_is_refused(
    tmp_path: Path, base: gguf.GgufFile, name: str
) -> None:
    pairs, why = BAD_PAIRS[name]
    assert why in refused(written(tmp_path / "adapter.gguf", GOOD, pairs), base)


def test_a_type_that_no_converter_writes_is_refused(tmp_path: Path, base: gguf.GgufFile) -> None:
    q5_0 = 6
    path = written(tmp_path / "adapter.gguf", GOOD[:1], kind=q5_0)
    assert "F32, F16, BF16, Q8_0, found Q5_0" in refused(path, base)


def test_what_is_no_gguf_is_refused(tmp_path: Path, base: gguf.GgufFile) -> None:
    (tmp_path / "adapter.gguf").write_bytes(b"PK")
    assert "adapter.gguf" in refused(tmp_path / "adapter.gguf", base)


def test_the_factors_of_experts_are_as_many_as_the_experts(
    tmp_path: Path, base: gguf.GgufFile
) -> None:
    experts = replace(base, tensors=(gguf.Tensor("experts.weight", (128, 64, 3), "F32", 0, 0),))
    path = tmp_path / "adapter.gguf"
    written(path, factors("experts.weight", (128, 4, 3), (4, 64, 3)))
    gguf_adapter.check(path, [experts], "polite")
    written(path, factors("experts.weight", (128, 4), (4, 64)))
    assert "(128, 4, 3) and (4, 64, 3) for (128, 64, 3)" in refused(path, experts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(tmp_path_factory.mktemp("whole") / "adapter.gguf", GOOD).read_bytes()


@given(st.data())
def test_bytes_that_are_changed_are_refused_in_one_sentence_or_change_nothing_that_counts(
    tmp_path_factory: pytest.TempPathFactory,
    base: gguf.GgufFile,
    whole: bytes,
    data: st.DataObject,
) -> None:
    described = len(whole) - 4 * (128 * 4 + 4 * 64)
    changed = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, described - 1), min_size=1, max_size=3)):
        changed[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(changed)
    message = ""
    try:
        gguf_adapter.check(path, [base], "polite")
    except gguf.ModelFileError as error:
        message = str(error)
    if message:
        assert message.startswith("adapter polite: ")
        assert "\n" not in message
    else:
        assert [one.dims for one in gguf.read(path).tensors] == [dims for _, dims in GOOD]
