"""A model's files, opened once: what was hashed is what the engine maps.

The files are hashed through the very descriptors that the worker inherits, so no one can put other
files in their place in between.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from sprat_proto import gguf, gguf_adapter
from sprat_proto.gguf_header import read
from sprat_proto.states import ReasonCode

from sprat_agent.runtime.wire import AdapterFile
from sprat_agent.sync.ports import ExecutionError, Loadable, ShardFile

_CHUNK_BYTES: Final = 1 << 20


class OpenedFiles:
    """The open files of one loadable model, until `close`."""

    def __init__(self, loadable: Loadable) -> None:
        """Open them all.

        Raises:
            ExecutionError: LOAD_FAILED when one cannot be opened or is no regular file.
        """
        self._loadable = loadable
        self._files = (*loadable.files, *(one.file for one in loadable.adapters))
        self._descriptors: list[int] = []
        self._abandoned = threading.Event()
        try:
            for shard in self._files:
                self._descriptors.append(_open(loadable, shard))
        except ExecutionError:
            self.close()
            raise

    @property
    def descriptors(self) -> Sequence[int]:
        """For the worker to inherit under the same numbers."""
        return tuple(self._descriptors)

    def path_for_engine(self, folder: Path) -> str:
        """Return the path by which the worker opens the model.

        llama.cpp finds the further files of a split model by the name of the first, so those get
        links in `folder`, each to the inherited descriptor.
        """
        parts = self._parts()
        if len(parts) == 1:
            return str(parts[0])
        count = len(parts)
        links = [folder / f"model-{at + 1:05}-of-{count:05}.gguf" for at in range(count)]
        for link, part in zip(links, parts, strict=True):
            link.symlink_to(part)
        return str(links[0])

    def adapters_for_engine(self) -> tuple[AdapterFile, ...]:
        """Return the adapters as the worker opens them."""
        return tuple(AdapterFile(name, str(path)) for name, path in self._adapters())

    def verify_blocking(self) -> None:
        """Compare size and SHA-256 of each file with the manifest, and check the header.

        The header is read while the hash is made (a large vocabulary takes as long as half of the
        hash), but judged only after it: bytes that were not signed are refused as such.

        Raises:
            ExecutionError: SIZE_MISMATCH, DIGEST_MISMATCH, MODEL_FILE_INVALID.
        """
        for shard, descriptor in zip(self._files, self._descriptors, strict=True):
            self._verify_size(shard, descriptor)
        with ThreadPoolExecutor(1, thread_name_prefix="header") as pool:
            header = pool.submit(self._verify_header)
            for shard, descriptor in zip(self._files, self._descriptors, strict=True):
                self._verify_digest(shard, descriptor)
            header.result()

    def _verify_header(self) -> None:
        # The whole check wants a whole model; of a split one, only each header can be read.
        inspect = gguf.check if len(self._loadable.files) == 1 else read
        try:
            base = [inspect(part) for part in self._parts()]
            for name, path in self._adapters():
                gguf_adapter.check(path, base, name)
        except gguf.ModelFileError as error:
            message = f"{self._loadable.name}: {error}"
            raise ExecutionError(ReasonCode.MODEL_FILE_INVALID, message) from error

    def abandon(self) -> None:
        """Make a `verify_blocking` in another thread end soon, by an error."""
        self._abandoned.set()

    def close(self) -> None:
        """Close all descriptors; the worker has its own."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _parts(self) -> list[Path]:
        """Return where the model's own files are open."""
        return [_place(one) for one in self._descriptors[: len(self._loadable.files)]]

    def _adapters(self) -> Iterator[tuple[str, Path]]:
        """Yield the adapters' names and where they are open."""
        descriptors = self._descriptors[len(self._loadable.files) :]
        for one, descriptor in zip(self._loadable.adapters, descriptors, strict=True):
            yield one.name, _place(descriptor)

    def _verify_size(self, shard: ShardFile, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size != shard.size:
            raise ExecutionError(
                ReasonCode.SIZE_MISMATCH,
                f"{self._loadable.name}: {shard.path.name} is to have {shard.size} bytes and has"
                f" {size}: refusing to load it",
                expected=str(shard.size),
                found=str(size),
            )

    def _verify_digest(self, shard: ShardFile, descriptor: int) -> None:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        offset = 0
        while count := os.preadv(descriptor, [buffer], offset):
            digest.update(buffer[:count])
            offset += count
            if self._abandoned.is_set():
                raise ExecutionError(ReasonCode.LOAD_FAILED, f"{self._loadable.name}: given up")
        found = digest.hexdigest()
        if found != shard.sha256:
            raise ExecutionError(
                ReasonCode.DIGEST_MISMATCH,
                f"{self._loadable.name}: {shard.path.name} is to have SHA-256 {shard.sha256[:16]}…"
                f" and has {found[:16]}…: refusing to load it",
                expected=shard.sha256,
                found=found,
            )


def _place(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")


def _open(loadable: Loadable, shard: ShardFile) -> int:
    try:
        descriptor = os.open(shard.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        message = f"{loadable.name}: cannot open {shard.path.name}: {error.strerror}"
        raise ExecutionError(ReasonCode.LOAD_FAILED, message) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        message = f"{loadable.name}: expected {shard.path.name} to be a file, found something else"
        raise ExecutionError(ReasonCode.LOAD_FAILED, message)
    return descriptor
