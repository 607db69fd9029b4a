from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from simulators import demo_model, hf_models
from simulators.model_files import write_onnx_folder
from simulators.models import write_model
from sprat_controller.publisher.convert.convert import ConvertError
from sprat_controller.publisher.originals import Original, check_source, prepare
from sprat_controller.publisher.push import make_variants
from sprat_controller.publisher.quantize import QuantizeError, quantize
from sprat_proto.gguf import ModelFileError


def silent(*_: object) -> None:
    """Report to nobody."""


def test_a_gguf_is_taken_as_it_is_with_the_form_that_it_has(tmp_path: Path) -> None:
    half = demo_model.make(tmp_path / "half.gguf")
    (single,) = write_model(tmp_path / "single.gguf")
    quantize(half, tmp_path / "small.gguf", "q8_0")
    assert prepare(half, tmp_path, None, silent) == Original(half, "f16", "f16", is_quantized=False)
    assert prepare(single, tmp_path, None, silent) == Original(
        single, "f32", None, is_quantized=False
    )
    small = prepare(tmp_path / "small.gguf", tmp_path, None, silent)
    assert (small.form, small.kind, small.is_quantized) == ("q8_0", "q8_0", True)


def test_a_folder_is_converted_under_its_own_name(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "tiny-llama", "llama")
    told: list[tuple[str, int, int]] = []

    def report(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    original = prepare(folder, tmp_path, None, report)
    assert (original.path.name, original.form, original.kind) == ("tiny-llama.gguf", "f16", "f16")
    assert {what for what, _, _ in told} == {"converting"}
    assert told[-1][1] == told[-1][2] > 0


def test_an_onnx_graph_is_told_by_what_it_is_of(tmp_path: Path) -> None:
    with pytest.raises(ConvertError) as raised:
        check_source(write_onnx_folder(tmp_path))
    message = str(raised.value)
    assert "an ONNX graph of qwen3 with " in message
    assert message.endswith("give the safetensors that it was exported from")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("a text")
    with pytest.raises(ModelFileError):
        check_source(tmp_path / "text.gguf")
    with pytest.raises(ModelFileError):
        check_source(tmp_path / "nothing.gguf")


def test_without_room_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = prepare(demo_model.make(tmp_path / "talk.gguf"), tmp_path, None, silent)
    kept = tmp_path / "kept"
    kept.mkdir()
    full = shutil.disk_usage(tmp_path)._replace(free=1 << 20)

    def usage(_folder: Path) -> object:
        return full

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(QuantizeError, match=r"expected 2 MiB free in .*, found 1 MiB"):
        make_variants(original, ["f16", "q8_0"], kept, "talk", silent)
    assert not list(kept.iterdir())
