"""Writing small files so that a power cut leaves the old one or the new one, never a half."""

from __future__ import annotations

import os
from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Make `folder` with mode 0700 and have its entry on disk; one that is there is kept."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def write_atomically(path: Path, data: bytes, *, mode: int) -> None:
    """Put `data` at `path`, durable when this returns.

    The temporary file is made anew with `mode` from the start (O_EXCL): there is no moment at
    which a key is readable by others, and no link planted in the folder is followed.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
