"""The file in which a model's worker keeps prefixes of prompts, opened by the agent.

It is what the worker may write, so its name says what it is for: the digest of the manifest, by
which it is removed with the version (`registry/store.py`), the type of keys and values, and a key
over these, the library and the machine. A file of another key is removed. A version with the same
weights has a file of its own: what the one's template or adapter did to a worker is not handed to
the other's. What is in it was computed from prompts and tells of them: nobody but the agent's user
may read it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import platform
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from sprat_agent.sync.ports import Loadable

_LOG = logging.getLogger(__name__)
_LIBRARY: Final = "llama-cpp-python"
_FREE_SHARE: Final = 4  # the file grows by at most this part of what is free on the disk
_KEY_DIGITS: Final = 16


@dataclass(frozen=True)
class PrefixFile:
    """What a worker is told of its file."""

    descriptor: int = -1  # -1: it keeps none
    limit: int = 0  # bytes
    key: str = ""

    @property
    def descriptors(self) -> Sequence[int]:
        """For the worker to inherit."""
        return (self.descriptor,) if self.descriptor >= 0 else ()


@contextmanager
def opened(folder: Path | None, loadable: Loadable, most: int) -> Generator[PrefixFile]:
    """Yield the file for a model, open; what stands in the way is logged and costs only time.

    Another worker of the same model may have it: then this one keeps none.

    Args:
        folder: Where these files are; None: nowhere.
        loadable: The model.
        most: Bytes of one file; 0: keep none.
    """
    file = PrefixFile()
    if folder and most > 0:
        try:
            file = _open(folder, loadable, most)
        except OSError as error:
            _LOG.warning("%s keeps no prefixes of prompts: %s", loadable.name, error)
    try:
        yield file
    finally:
        for descriptor in file.descriptors:
            os.close(descriptor)


def tidy(folder: Path | None, most: int) -> None:
    """Remove all files where none may be kept."""
    if folder and most <= 0:
        shutil.rmtree(folder, ignore_errors=True)


def limited(most: int, size: int, free: int) -> int:
    """Return how long a file may become.

    Args:
        most: By configuration.
        size: How long it is, which is not free any more.
        free: Bytes on its disk.
    """
    return min(most, size + free // _FREE_SHARE)


def key_of(loadable: Loadable) -> str:
    """Return what stands for everything that keys and values depend upon, but for the tokens."""
    parts = (loadable.digest, loadable.serving.kv_type, _library(), platform.machine())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _open(folder: Path, loadable: Loadable, most: int) -> PrefixFile:
    key = key_of(loadable)
    name = f"{loadable.digest}.{loadable.serving.kv_type}"
    path = folder / f"{name}.{key[:_KEY_DIGITS]}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in {*folder.glob(f"{name}.*")} - {path}:
        other.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        # For as long as the worker lives: it inherits the lock with the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return PrefixFile(descriptor, _cut(descriptor, most), key)
    except BlockingIOError:
        os.close(descriptor)
        return PrefixFile()
    except OSError:
        os.close(descriptor)
        raise


def _cut(descriptor: int, most: int) -> int:
    """Return how long the file may become, and make it no longer."""
    found, disk = os.fstat(descriptor), os.fstatvfs(descriptor)
    limit = limited(most, found.st_size, disk.f_bavail * disk.f_frsize)
    if found.st_size > limit:
        os.ftruncate(descriptor, limit)
    os.fchmod(descriptor, 0o600)
    return limit


@cache
def _library() -> str:
    try:
        return f"{_LIBRARY} {metadata.version(_LIBRARY)}"
    except metadata.PackageNotFoundError:
        return ""
