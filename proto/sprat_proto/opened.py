"""Opens files that somebody else put into a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sprat_proto.gguf_header import ModelFileError, without_waiting


@contextmanager
def opened(path: Path) -> Generator[BinaryIO]:
    """Open a file for reading, and close it.

    Raises:
        ModelFileError: It cannot be opened, is no regular file, or what is done with it fails.
    """
    try:
        with open(path, "rb", opener=without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelFileError("expected a regular file, found something else")
            yield file
    except OSError as error:
        raise ModelFileError(f"expected a readable file, found: {error.strerror}") from error
