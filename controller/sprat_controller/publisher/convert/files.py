"""Reading the small files of a model folder: bounded, and only what is asked for of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from sprat_controller.publisher.convert.errors import ConvertError

MAX_CONFIG_BYTES: Final = 1 << 20
MAX_TOKENIZER_BYTES: Final = 64 << 20  # gemma 3's tokenizer.json takes 33 MB

_T = TypeVar("_T")


def read_bytes(path: Path, limit: int) -> bytes | None:
    """Return what a file holds, or None where there is none.

    Raises:
        ConvertError: It cannot be read, or is longer than `limit` bytes.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            # As much as there is: what is asked for is set aside at once.
            data = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)
    except OSError as error:
        raise ConvertError(
            f"expected a readable {path.name}, found: {error.strerror or error}"
        ) from error
    if len(data) > limit:
        raise ConvertError(f"expected {path.name} of at most {limit} bytes, found a longer one")
    return data


def read_text(path: Path, limit: int) -> str | None:
    """Return a file's UTF-8 text, or None where there is none.

    Raises:
        ConvertError: As for `read_bytes`, or it is no UTF-8.
    """
    data = read_bytes(path, limit)
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConvertError(
            f"expected UTF-8 in {path.name}, found other bytes at {error.start}"
        ) from error


def read_json(path: Path, shape: type[_T], limit: int) -> _T | None:
    """Return a JSON file as `shape`, whose other keys are passed over, or None where there is none.

    Raises:
        ConvertError: As for `read_bytes`, or its keys do not hold what `shape` says.
    """
    data = read_bytes(path, limit)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = " ".join(str(error).split())[:200]
        raise ConvertError(f"expected {path.name} as JSON that fits, found: {found}") from error
