"""The files we make, tensor by tensor and bit by bit, against independent quantizers."""

# pyright: reportUnknownMemberType=false
# gguf declares its arrays without element types.

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray
from simulators import models, ternary_models
from sprat_controller.publisher.quantize import FILE_TYPES, TERNARY, quantize

# Forms that the gguf package makes in numpy, and how many tensors of our models have them: 14
# matrices of blocks, the embedding, and the output layer if it is not given better bits.
EXPECTED = {"q8_0": 16, "q5_1": 15, "q4_0": 15, "tq2_0": 14, "tq1_0": 14}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a trained and a ternary model in F16, as publishers have them."""
    folder = tmp_path_factory.mktemp("sources")
    whole = folder / "whole.gguf"
    models.write_model(whole, models.Shape(width=256, seed=7))
    quantize(whole, folder / "trained.gguf", "f16")
    ternary_models.write(whole)
    quantize(whole, folder / "ternary.gguf", "f16")
    return folder


def source_of(kind: str, folder: Path) -> Path:
    return folder / ("ternary.gguf" if kind in TERNARY else "trained.gguf")


def made(kind: str, folder: Path) -> Path:
    """Return the variant, made once."""
    target = folder / f"{kind}.gguf"
    if not target.exists():
        quantize(source_of(kind, folder), target, kind)
    return target


def tensors(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("kind", EXPECTED)
def test_block_forms_are_those_of_the_gguf_package(folder: Path, kind: str) -> None:
    originals, checked = tensors(source_of(kind, folder)), 0
    for name, tensor in tensors(made(kind, folder)).items():
        if tensor.tensor_type.name.lower() == kind:
            expected = gguf.quantize(whole(originals[name]), tensor.tensor_type)
            assert np.array_equal(tensor.data, expected), name
            checked += 1
        elif tensor.data.ndim == 1:
            assert np.array_equal(tensor.data, originals[name].data), name
    assert checked == EXPECTED[kind]


def whole(tensor: gguf.ReaderTensor) -> NDArray[np.float32]:
    return np.asarray(tensor.data, np.float32)


@pytest.mark.parametrize("kind", sorted(TERNARY))
def test_ternary_forms_lose_nothing(folder: Path, kind: str) -> None:
    originals = tensors(source_of(kind, folder))
    for name, tensor in tensors(made(kind, folder)).items():
        if tensor.tensor_type.name.lower() == kind:
            weights = gguf.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(weights, whole(originals[name])), name


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_a_variant_is_what_llama_cpp_makes(folder: Path, tmp_path: Path, kind: str) -> None:
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = FILE_TYPES[kind]
    expected = tmp_path / "expected.gguf"
    paths = (str(source_of(kind, folder)).encode(), str(expected).encode())
    assert llama_cpp.llama_model_quantize(*paths, ctypes.pointer(options)) == 0
    found = tensors(made(kind, folder))
    assert list(found) == list(tensors(expected))
    for name, tensor in tensors(expected).items():
        assert found[name].tensor_type == tensor.tensor_type
        assert np.array_equal(found[name].data, tensor.data), name


def test_the_mixed_form_has_better_bits_where_they_matter_most(folder: Path) -> None:
    forms = {tensor.tensor_type.name for tensor in tensors(made("q4_k_m", folder)).values()}
    assert forms == {"F32", "Q4_K", "Q6_K"}


def test_variants_are_listed_from_the_largest_to_the_smallest(folder: Path) -> None:
    sizes = [made(kind, folder).stat().st_size for kind in FILE_TYPES]
    assert sizes == sorted(sizes, reverse=True)
