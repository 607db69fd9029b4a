"""Reading and writing the small files that people name on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sprat_controller.cli.exits import CliError

LIMIT: Final = 64 << 10  # bytes; keys, tokens and passphrases are far smaller


def read_text(path: Path, what: str) -> str:
    """Return the text of a small file.

    Raises:
        CliError: It cannot be read, is too large, or is no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise CliError(f"the {what} file {path} cannot be read: {error.strerror}") from error
    if len(data) > LIMIT:
        raise CliError(f"expected a {what} in {path}, found more than {LIMIT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CliError(f"expected a {what} in {path}, found bytes that are no text") from error


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
