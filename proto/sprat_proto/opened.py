"""Opens files that somebody else put into a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sprat_proto.gguf_header import ModelFileError


@contextmanager
def opened(path: Path) -> Generator[BinaryIO]:
    """Open a file for reading, and close it.

    Raises:
        ModelFileError: It cannot be opened, is no regular file, or what is done with it fails.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelFileError("expected a regular file, found something else")
            yield file
    except OSError as error:
        raise ModelFileError(f"expected a readable file, found: {error.strerror}") from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; if it is a pipe, there may never be another end to wait for."""
    return os.open(path, flags | os.O_NONBLOCK)
