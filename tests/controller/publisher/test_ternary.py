from __future__ import annotations

from pathlib import Path

import gguf
import pytest
from simulators import models, ternary_models
from sprat_controller.publisher import ternary


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return ternary_models.write(tmp_path / "source.gguf")


def rewritten(source: Path, kind: gguf.GGMLQuantizationType) -> Path:
    """Return the model with its matrices in another unquantized form."""
    target = source.with_name("rewritten.gguf")
    writer = gguf.GGUFWriter(target, "llama")
    reader = gguf.GGUFReader(source)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        element = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), field.types[0], element)
    for tensor in reader.tensors:
        if tensor.data.ndim > 1:
            writer.add_tensor(tensor.name, gguf.quantize(tensor.data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_a_ternary_model_has_no_fault(source: Path) -> None:
    assert ternary.fault_of(source) is None


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_it_has_none_in_half_the_bits_either(source: Path, kind: str) -> None:
    other = rewritten(source, gguf.GGMLQuantizationType[kind])
    assert ternary.fault_of(other) is None


def test_a_tensor_is_read_a_slab_at_a_time(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ternary, "_READ", 512)
    assert ternary.fault_of(source) is None
    ternary_models.spoil(source, "blk.1.ffn_down.weight", 0.01)
    assert "blk.1.ffn_down.weight" in str(ternary.fault_of(source))


def test_one_weight_of_another_size_is_a_fault_that_names_the_first_tensor(source: Path) -> None:
    ternary_models.spoil(source, "blk.1.ffn_up.weight", 0.01)
    ternary_models.spoil(source, "blk.0.ffn_up.weight", 0.01)
    fault = str(ternary.fault_of(source))
    assert "blk.0.ffn_up.weight of source.gguf" in fault
    assert "another variant" in fault
    assert "\n" not in fault


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1e9, -1e-9])
def test_a_scale_that_cannot_be_stored_is_a_fault(source: Path, weight: float) -> None:
    for tensor in ternary_models.matrices(source):
        if tensor.name == "blk.0.attn_q.weight":
            tensor.data[-1] = weight
    assert "blk.0.attn_q.weight" in str(ternary.fault_of(source))


def test_a_trained_model_is_a_fault(tmp_path: Path) -> None:
    models.write_model(tmp_path / "trained.gguf", models.Shape(width=256))
    assert "ternary" in str(ternary.fault_of(tmp_path / "trained.gguf"))


def test_narrow_matrices_are_a_fault(tmp_path: Path) -> None:
    narrow = ternary_models.write(tmp_path / "narrow.gguf", width=64)
    assert "rows of 64" in str(ternary.fault_of(narrow))
