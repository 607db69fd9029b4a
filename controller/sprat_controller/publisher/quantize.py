"""Making the variants of a model with llama.cpp, on a publisher's machine.

llama_cpp is imported in a child process only (`python -m sprat_controller.publisher.quantize`):
native code that crashes costs one clear sentence.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from sprat_proto import gguf

from sprat_controller.publisher import native

# Variant: llama.cpp's file type number (`general.file_type`), from the largest to the smallest.
FILE_TYPES: Final[Mapping[str, int]] = {
    "f16": 1,
    "q8_0": 7,
    "q5_1": 9,
    "q4_k_m": 15,
    "q4_0": 2,
    "tq2_0": 37,
    "tq1_0": 36,
}
# These are for models whose weights are ternary already, and then lose nothing of them.
TERNARY: Final = frozenset({"tq2_0", "tq1_0"})
COMMAND: Final = (sys.executable, "-P", "-m", "sprat_controller.publisher.quantize")
_UNQUANTIZED: Final = frozenset({"F32", "F16", "BF16"})
_NO_LLAMA: Final = 3  # exit statuses of the child
_FAILED: Final = 4
_REFUSED: Final = 5
_NEUTRAL: Final = Path("/")  # where nobody but root puts what Python or llama.cpp would load
_PROGRESS: Final = re.compile(rb"\[ *([0-9]+)/ *([0-9]+)\]")  # as llama.cpp counts tensors
_COMPLAINTS: Final = (3, 4)  # ggml_log_level: warning, error

Done: TypeAlias = Callable[[int, int], None]  # how many tensors are done, and how many there are


class QuantizeError(Exception):
    """The variant cannot be made; the message is one sentence."""


def quantize(
    source: Path, target: Path, kind: str, threads: int = 0, *, done: Done | None = None
) -> None:
    """Write `source` in the form `kind` to `target`, whole or not at all.

    A source that already has this form is copied.

    Args:
        source: A GGUF that `gguf.check` accepts.
        target: The file to write.
        kind: One of `FILE_TYPES`.
        threads: How many to use; 0 is one for each core.
        done: Told how it goes on.

    Raises:
        QuantizeError: Unknown form, a source that is quantized already in another form, a ternary
            form of weights that are not, llama.cpp not installed, failed or crashed.
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
            _run_child(source, partial, kind, threads, done)
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


def _run_child(source: Path, target: Path, kind: str, threads: int, done: Done | None) -> None:
    def told(line: bytes) -> None:
        if done and (found := _PROGRESS.match(line)):
            done(int(found[1]), int(found[2]))

    paths = (str(source.absolute()), str(target.absolute()))
    ended = native.run([*COMMAND, *paths, kind, str(threads)], told, _NEUTRAL)
    if ended.status == _REFUSED:
        raise QuantizeError(ended.reason)
    what = f"llama.cpp could not make {kind} of {source.name}"
    if ended.status == _NO_LLAMA:
        raise QuantizeError(
            f"{what}: it is not installed here, run `pip install sprat-controller[publish]`"
        )
    if ended.status:
        raise QuantizeError(f"{what}: {ended.reason}")


def _child(source: str, target: str, kind: str, threads: int) -> int:
    """Quantize in this process; return the exit status."""
    try:
        llama: Any = importlib.import_module("llama_cpp")
    except ImportError:
        return _NO_LLAMA
    if kind in TERNARY:
        ternary = importlib.import_module("sprat_controller.publisher.ternary")
        if fault := ternary.fault_of(Path(source)):
            sys.stderr.write(f"{fault}\n")
            return _REFUSED
    log = llama.llama_log_callback(_take_log)
    llama.llama_log_set(log, ctypes.c_void_p(0))
    llama.llama_backend_init()
    options = llama.llama_model_quantize_default_params()
    options.ftype = FILE_TYPES[kind]
    options.nthread = threads or os.cpu_count() or 1
    status = llama.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(options))
    return _FAILED if status else 0


def _take_log(level: int, text: bytes, _user_data: Any) -> None:
    """Pass on what llama.cpp says: progress to the output, complaints to the errors."""
    if _PROGRESS.match(text):
        sys.stdout.buffer.write(text.rstrip() + b"\n")
        sys.stdout.flush()
    elif level in _COMPLAINTS:
        sys.stderr.write(text.decode("utf-8", "replace"))


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
