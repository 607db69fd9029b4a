"""What variants are made from: a GGUF, or a Hugging Face folder that is converted to one first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from sprat_proto import gguf

from sprat_controller.publisher.convert.convert import ConvertError, convert, is_model_folder
from sprat_controller.publisher.formats.model_folder import facts_of_folder
from sprat_controller.publisher.quantize import kind_of

# What is being done, how much of it is done, and how much there is.
Report: TypeAlias = Callable[[str, int, int], None]

_UNQUANTIZED: Final = frozenset({"F32", "F16", "BF16"})


@dataclass(frozen=True)
class Original:
    """A GGUF, and the form that it has.

    Attributes:
        path: Where it is.
        form: Of its matrices, as `f16`; `mixed` if they differ.
        kind: The variant that it is, byte for byte; None: it is none of those that are published.
        is_quantized: It lost something already: no other variant is made of it or compared with it.
    """

    path: Path
    form: str
    kind: str | None
    is_quantized: bool


def prepare(source: Path, scratch: Path, pre: str | None, report: Report) -> Original:
    """Return the original of a model, converted into `scratch` if it is a folder.

    Args:
        source: A GGUF, or a folder with config.json and safetensors.
        scratch: An existing folder.
        pre: llama.cpp's name of a folder's pre-tokenizer, where it is not known.
        report: Told what is being done.

    Raises:
        ConvertError: The folder cannot be converted.
        gguf.ModelFileError: The file is no model that Sprat runs.
    """
    if not source.is_dir():
        return _of(source)
    check_folder(source)

    def told(_tensor: str, done: int, total: int) -> None:
        report("converting", done, total)

    target = scratch / "original" / f"{source.resolve().name}.gguf"
    target.parent.mkdir()
    return _of(convert(source, target, pre=pre, report=told).path)


def check_source(source: Path) -> None:
    """Check what can be told at once of a model that is to be published.

    Raises:
        ConvertError: A folder that cannot be converted.
        gguf.ModelFileError: The file is no model that Sprat runs.
    """
    if source.is_dir():
        check_folder(source)
    else:
        gguf.check(source)


def check_folder(folder: Path) -> None:
    """Check that a folder looks like one that can be converted.

    Raises:
        ConvertError: It does not; what was found in it.
    """
    if is_model_folder(folder):
        return
    raise ConvertError(
        "expected a GGUF, or a folder with config.json and model.safetensors, found"
        f" {folder} with {_found(folder)}"
    )


def _found(folder: Path) -> str:
    """Return what a folder holds, as the end of a sentence, with what to do about it."""
    names = sorted(path.name for path in folder.iterdir())
    ends = {name.rpartition(".")[2].lower() for name in names}
    if "onnx" in ends:
        return f"{_onnx(folder)}: give the safetensors that it was exported from"
    if "gguf" in ends:
        return "GGUF files: give one of them"
    if ends & {"bin", "pt", "pth"} and "safetensors" not in ends:
        return "pickled weights, which may run code when read: save them as safetensors first"
    if "safetensors" in ends:
        return "safetensors, but no config.json" if "config.json" not in names else "other names"
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "") or "nothing in it"  # noqa: PLR2004


def _onnx(folder: Path) -> str:
    """Return which model an ONNX graph is of, if it says so."""
    try:
        facts = facts_of_folder(folder)
    except gguf.ModelFileError as error:
        return f"an ONNX graph ({error})"
    return f"an ONNX graph of {facts.architecture} with {facts.parameters:,} parameters"


def _of(path: Path) -> Original:
    file = gguf.check(path)
    matrices = {tensor.type for tensor in file.tensors if len(tensor.dims) > 1}
    return Original(
        path=path,
        form=matrices.pop().lower() if len(matrices) == 1 else "mixed",
        kind=kind_of(file),
        is_quantized=not {tensor.type for tensor in file.tensors} <= _UNQUANTIZED,
    )
