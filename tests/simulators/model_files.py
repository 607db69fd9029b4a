"""Files of models as their publishers have them, made byte by byte: safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any


def with_header(header: bytes, data: int = 0, *, length: int | None = None) -> bytes:
    """Return a safetensors file with this header and `data` bytes, whatever the header says."""
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(data)


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors(
    shapes: Mapping[str, tuple[int, ...]], *, dtype: str = "BF16", size: int = 2
) -> bytes:
    """Return a file with tensors of one type of `size` bytes an element, all zero."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + size * _product(shape)
        header[name] = entry(dtype, list(shape), begin, end)
    text = json.dumps(header).encode()
    return with_header(text + b" " * (-len(text) % 8), end)


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for dimension in shape:
        product *= dimension
    return product
