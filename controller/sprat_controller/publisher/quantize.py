"""Making the variants of a model with llama.cpp, on a publisher's machine.

The only file of the controller's plane that imports llama_cpp, and only in a child process (`python
-m sprat_controller.publisher.quantize`): native code that crashes costs one clear sentence.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sprat_proto import gguf

# Variant: llama.cpp's file type number (`general.file_type`), in order of quality.
FILE_TYPES: Final[Mapping[str, int]] = {
    "f16": 1,
    "q8_0": 7,
    "q5_1": 9,
    "q4_k_m": 15,
    "q4_0": 2,
}
_UNQUANTIZED: Final = frozenset({"F32", "F16", "BF16"})
_NO_LLAMA: Final = 3  # exit statuses of the child
_FAILED: Final = 4


class QuantizeError(Exception):
    """The variant cannot be made; the message is one sentence."""


def quantize(source: Path, target: Path, kind: str, threads: int = 0) -> None:
    """Write `source` in the form `kind` to `target`, whole or not at all.

    A source that already has this form is copied.

    Args:
        source: A GGUF that `gguf.check` accepts.
        target: The file to write.
        kind: One of `FILE_TYPES`.
        threads: How many to use; 0 is one for each core.

    Raises:
        QuantizeError: Unknown form, a source that is quantized already in another form, llama.cpp
            not installed, failed or crashed.
        gguf.ModelFileError: The source is no model that Sprat runs.
    """
    if kind not in FILE_TYPES:
        raise QuantizeError(f"expected a variant of {', '.join(FILE_TYPES)}, found {kind!r}")
    file = gguf.check(source)
    partial = target.with_name(f".{target.name}.partial")
    try:
        if kind_of(file) == kind:
            shutil.copyfile(source, partial)
        else:
            _check_source(file, source, kind)
            _run_child(source, partial, kind, threads)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def kind_of(file: gguf.GgufFile) -> str | None:
    """Return the variant that a file already is, or None if it is another form."""
    number = file.metadata.get("general.file_type")
    return next((kind for kind, known in FILE_TYPES.items() if known == number), None)


def _check_source(file: gguf.GgufFile, source: Path, kind: str) -> None:
    quantized = {tensor.type for tensor in file.tensors} - _UNQUANTIZED
    if quantized:
        raise QuantizeError(
            f"expected an F16, BF16 or F32 model to make {kind} from, found {source.name} with"
            f" {', '.join(sorted(quantized))} tensors: push the original instead"
        )


def _run_child(source: Path, target: Path, kind: str, threads: int) -> None:
    command = [
        *(sys.executable, "-m", "sprat_controller.publisher.quantize"),
        *(str(source), str(target), kind, str(threads)),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    what = f"llama.cpp could not make {kind} of {source.name}"
    if done.returncode == _NO_LLAMA:
        raise QuantizeError(
            f"{what}: it is not installed here, run `pip install sprat-controller[publish]`"
        )
    if done.returncode < 0:
        raise QuantizeError(f"{what}: it crashed with signal {-done.returncode}")
    if done.returncode > 0:
        raise QuantizeError(f"{what}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"


def _child(source: str, target: str, kind: str, threads: int) -> int:
    """Quantize in this process; return the exit status."""
    try:
        llama: Any = importlib.import_module("llama_cpp")
    except ImportError:
        return _NO_LLAMA
    llama.llama_backend_init()
    options = llama.llama_model_quantize_default_params()
    options.ftype = FILE_TYPES[kind]
    options.nthread = threads or os.cpu_count() or 1
    status = llama.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(options))
    return _FAILED if status else 0


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
