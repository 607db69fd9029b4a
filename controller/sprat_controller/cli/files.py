"""Reading and writing the small files that people name on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sprat_controller.cli.exits import CliError

LIMIT: Final = 64 << 10  # bytes; keys, tokens and passphrases are far smaller


def read_text(path: Path, what: str, limit: int = LIMIT) -> str:
    """Return the text of a small file.

    Raises:
        CliError: It cannot be read, is too large, or is no text.
    """
    try:
        return read_limited(path, what, limit).decode()
    except UnicodeDecodeError as error:
        raise CliError(f"expected a {what} in {path}, found bytes that are no text") from error


def read_limited(path: Path, what: str, limit: int = LIMIT) -> bytes:
    """Return what is in a small file.

    Raises:
        CliError: It cannot be read, or is larger than `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        named = what.removesuffix(" file")
        raise CliError(f"the {named} file {path} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise CliError(f"expected a {what} in {path}, found more than {limit} bytes")
    return data


def write_new(path: Path, data: bytes, what: str) -> None:
    """Write a file that is not there yet.

    Raises:
        CliError: It is there, or cannot be written.
    """
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise CliError(f"{path} is there already: remove it, or choose another file") from error
    except OSError as error:
        raise CliError(f"the {what} {path} cannot be written: {error.strerror}") from error
