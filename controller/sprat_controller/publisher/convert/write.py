"""The GGUF file itself: the header by the `gguf` package, then the tensors piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import gguf
import numpy as np

from sprat_controller.publisher.convert.checkpoint import Source
from sprat_controller.publisher.convert.metadata import Metadata
from sprat_controller.publisher.convert.tensors import is_f16, pieces

_ALIGNMENT: Final = 32
_KINDS: Final = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}

Report = Callable[[str, int, int], None]


def write(
    path: Path,
    architecture: str,
    *,
    metadata: Metadata,
    factors: Mapping[str, list[float]],
    sources: Sequence[Source],
    report: Report,
) -> None:
    """Write a GGUF.

    Args:
        path: A file that may be overwritten.
        architecture: What the GGUF calls it.
        metadata: All but the architecture.
        factors: Small tensors, in single precision.
        sources: The weights, in the order of the file.
        report: Told the tensor, and how many bytes of how many are written.

    Raises:
        ConvertError: A weight cannot be stored.
        OSError: The disk is full, or a file cannot be read or written.
    """
    small = {name: np.array(values, dtype="<f4") for name, values in factors.items()}
    total = sum(one.nbytes for one in small.values()) + sum(_bytes_of(one) for one in sources)
    _write_header(path, architecture, metadata, small, sources)
    done = 0
    with path.open("r+b") as file:
        file.seek(0, 2)
        _pad(file)
        for name, values in small.items():
            done += file.write(values.tobytes())
            _pad(file)
            report(name, done, total)
        for source in sources:
            for piece in pieces(source):
                little = piece.astype(piece.dtype.newbyteorder("<"), copy=False)
                done += file.write(np.ascontiguousarray(little).data)
                report(source.weight.name, done, total)
            _pad(file)


def _write_header(
    path: Path,
    architecture: str,
    metadata: Metadata,
    small: Mapping[str, Any],
    sources: Sequence[Source],
) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        getattr(writer, f"add_{_KINDS[type(value)]}")(key, value)
    for name, values in small.items():
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    for source in sources:
        kind = np.dtype(np.float16 if is_f16(source) else np.float32)
        weight = source.weight
        writer.add_tensor_info(weight.name, weight.shape, kind, _bytes_of(source))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _bytes_of(source: Source) -> int:
    return int(np.prod(source.weight.shape, dtype=np.int64)) * (2 if is_f16(source) else 4)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))
