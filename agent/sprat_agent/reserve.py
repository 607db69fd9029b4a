"""Room for the state file on a disk that others have filled: the last words must be written.

A file, `reserve`, has so many bytes allocated and holds nothing. Before each transaction it is
looked how much is free; below `FLOOR_BYTES` the file gives up `STEP_BYTES` of its end, and SQLite
takes them. It works where space once given is anybody's, which is why it goes by steps: somebody
else who writes without end gets one step, and the transaction that follows at once the next. What
was tried and does not work: pages that were freed within agent.db (WAL is another file, and must
grow first), and space allocated behind the end of either file (a checkpoint cuts it off). Where a
quota or a limit of the process refuses what the file system has, the failed transaction itself says
so, and the next one finds a step.

While the file is not whole, whoever would fill the disk further must wait: see `sync.room`. It is
made whole again once there is room for it and `AGAIN_BYTES` more, so that a disk that is just full
does not have it come and go.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LOG = logging.getLogger(__name__)

# More than a transaction writes, as a rule; one that needs more fails, and finds another step.
FLOOR_BYTES: Final = 1 << 18
STEP_BYTES: Final = 1 << 18
AGAIN_BYTES: Final = 4 << 20
FILE: Final = "reserve"


def free_bytes(folder: Path) -> int:
    """Return the bytes that this process may still write to the folder's disk."""
    return shutil.disk_usage(folder).free


class Reserve:
    """The file and what it still holds; whoever writes holds the state file's lock."""

    def __init__(
        self, folder: Path, size_bytes: int, free: Callable[[Path], int] = free_bytes
    ) -> None:
        """Reserve so much in a folder; what is there already counts. 0: nothing, for ever.

        Args:
            folder: Where the state file is; made if it is not there.
            size_bytes: Of the whole reserve.
            free: Tells how much may be written to a folder's disk.
        """
        self._folder = folder
        self._path = folder / FILE
        self.size_bytes = size_bytes
        self._free = free
        folder.mkdir(parents=True, exist_ok=True)
        self._held = min(_allocated(self._path), size_bytes)
        self._cut(self._held)
        self.look()

    @property
    def is_whole(self) -> bool:
        """Nothing of it was given up, or all of it is back."""
        return self._held >= self.size_bytes

    @property
    def held_bytes(self) -> int:
        """What it still has to give."""
        return self._held

    def free_bytes(self) -> int:
        """Return what is free on the disk besides it."""
        return self._free(self._folder)

    def look(self) -> None:
        """Give way if the disk is nearly full; become whole again if there is room for all."""
        free = self._free(self._folder)
        if free < FLOOR_BYTES:
            self.give_way()
        elif not self.is_whole and free >= self.size_bytes - self._held + AGAIN_BYTES:
            self._grow()

    def give_way(self) -> None:
        """Give up one step, if there is one."""
        if self._held:
            if self.is_whole:
                _LOG.error("the disk is full: writing on into the audit log's reserve")
            self._cut(max(0, self._held - STEP_BYTES))

    def _cut(self, size: int) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            _LOG.error("the audit log's reserve cannot be given up: %s", error)
            return
        self._held = size

    def _grow(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.size_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            _LOG.warning("there is no room for the audit log's reserve: %s", error)
            self._cut(self._held)
            return
        self._held = self.size_bytes
        _LOG.info("the audit log's reserve is whole")


def _allocated(path: Path) -> int:
    """Return how much of a file has blocks: one with holes reserves nothing."""
    try:
        found = path.stat()
    except OSError:
        return 0
    return min(found.st_size, found.st_blocks * 512)
