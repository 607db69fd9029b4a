"""Reading a bundle's tar that anybody may have made: an index first, then only what is asked for.

Nothing is extracted by name. Of tar only the 512-byte headers of regular files are read (no links,
folders, devices, long names or extended headers), each name once, in the one order that there is,
every size within its limit and within the file. Blocking.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec
from sprat_proto import bundle, canonical
from sprat_proto.canonical import NotCanonicalError

from sprat_agent.bundle.refusal import BundleError

_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = bytes(_BLOCK)
_MAX_PADDING: Final = tarfile.RECORDSIZE
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Member:
    """Where a file is in the bundle; in bytes."""

    offset: int
    size: int


class Archive:
    """An open bundle, whose index was found good."""

    def __init__(self, path: Path) -> None:
        """Open and index it.

        Raises:
            BundleError: It cannot be read, or is not a bundle from beginning to end.
        """
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise BundleError(f"the bundle {path} cannot be read: {error.strerror}") from error
        try:
            self._members = self._index()
            self.header = self._header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        """Return itself; `close` follows."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    @property
    def members(self) -> Mapping[str, Member]:
        """What there is, by name, in order."""
        return self._members

    def has(self, name: str) -> bool:
        """Tell whether there is a member of this name."""
        return name in self._members

    def read(self, name: str) -> bytes:
        """Return a small member whole.

        Raises:
            FileNotFoundError: It is not there.
            BundleError: The file was changed meanwhile.
        """
        return b"".join(self.stream(name))

    def stream(self, name: str, start: int = 0) -> Iterator[bytes]:
        """Yield a member's bytes from `start` on.

        Raises:
            FileNotFoundError: It is not there.
            BundleError: The file was changed meanwhile.
        """
        member = self._members.get(name)
        if member is None:
            raise FileNotFoundError(name)
        at, end = member.offset + start, member.offset + member.size
        while at < end:
            data = os.pread(self._file, min(_READ_BYTES, end - at), at)
            if not data:
                raise self._wrong(f"ends in the middle of {name}")
            at += len(data)
            yield data

    def _index(self) -> dict[str, Member]:
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise self._wrong("is no file")
        members: dict[str, Member] = {}
        at, last = 0, -1
        while True:
            block = os.pread(self._file, _BLOCK, at)
            at += _BLOCK
            if block == _END:
                self._check_end(at, status.st_size)
                return members
            name, size = self._entry(block)
            place, limit = bundle.rank(name) or (-1, 0)
            if place < last or place < 0 or name in members or len(members) == bundle.MAX_MEMBERS:
                raise self._wrong(f"has {name!r} where it has no business")
            if size > limit or at + size > status.st_size:
                raise self._wrong(f"says that {name} has {size} bytes")
            members[name], last = Member(at, size), place
            at += -(-size // _BLOCK) * _BLOCK

    def _entry(self, block: bytes) -> tuple[str, int]:
        """Return name and size from a header."""
        try:
            found = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
            raise self._wrong(f"is cut off or no bundle: {error}") from error
        if found.type != tarfile.REGTYPE or found.size < 0:
            raise self._wrong(f"has {found.name!r}, which is no plain file")
        return found.name, found.size

    def _check_end(self, at: int, size: int) -> None:
        """Hold that nothing follows the end mark but the padding that tar writes."""
        rest = os.pread(self._file, _MAX_PADDING + 1, at)
        if size - at != len(rest) or len(rest) < _BLOCK or rest.strip(b"\0"):
            raise self._wrong("does not end where a bundle ends")

    def _header(self) -> bundle.Header:
        if not self.has(bundle.HEADER):
            raise self._wrong(f"has no {bundle.HEADER}")
        try:
            return canonical.decode(self.read(bundle.HEADER), bundle.Header, bundle.HEADER)
        except (NotCanonicalError, msgspec.MsgspecError) as error:
            raise self._wrong(f"is not a bundle that this agent knows: {error}") from error

    def _wrong(self, what: str) -> BundleError:
        return BundleError(f"the bundle {self._path} {what}: copy it anew, or have it made again")
