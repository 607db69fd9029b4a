"""A bundle as what `registry` fetches from: metadata by name, blobs by hash. Nothing is trusted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from sprat_proto import bundle
from sprat_proto.states import ReasonCode

from sprat_agent.bundle.archive import Archive
from sprat_agent.bundle.refusal import BundleError
from sprat_agent.registry.blocking import Stop, in_thread
from sprat_agent.registry.partial import Blob, PartialFile
from sprat_agent.registry.remote import Sources
from sprat_agent.registry.source import NotThereError, SourceError
from sprat_agent.sync.ports import ExecutionError

T = TypeVar("T")

_SHA256: Final = "sha256/"


class BundleRemote:
    """A `registry.remote.Remote` over an open bundle."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    @contextmanager
    def opened(self) -> Generator[Sources]:
        """Yield the sources; see `Remote`."""
        yield Sources(
            _ArchiveSource(self._archive, bundle.image_name),
            _ArchiveSource(
                self._archive, lambda name: bundle.blob_name(name.removeprefix(_SHA256))
            ),
        )

    async def ask(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; see `Remote`."""
        return await in_thread(lambda _: work())


class BundleFetcher:
    """Blobs out of a bundle, as `registry.fetch.Fetcher` has them from the network."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[BundleDownload]:
        """Yield what copies."""
        yield BundleDownload(self._archive)


class BundleDownload:
    """Copies from an open bundle; every piece is verified on its way."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def fetch(self, blob: Blob, path: Path) -> None:
        """Make `path` hold the whole, verified blob; what it holds already is resumed.

        Raises:
            ExecutionError: DIGEST_MISMATCH, SIZE_MISMATCH, BLOB_NOT_FOUND, INSUFFICIENT_DISK.
            BundleError: The bundle was changed while it was read.
        """
        await in_thread(lambda stop: self._copy(blob, path, stop))

    def _copy(self, blob: Blob, path: Path, stop: Stop) -> None:
        partial = PartialFile(blob, path, stop)
        try:
            if not partial.is_whole():
                for data in self._stream(blob, partial.offset):
                    stop.check()
                    partial.write(data)
            partial.check_whole()
        finally:
            partial.close()

    def _stream(self, blob: Blob, start: int) -> Iterator[bytes]:
        name = bundle.blob_name(blob.sha256)
        member = self._archive.members.get(name)
        if member is None or member.size != blob.size:
            raise ExecutionError(
                ReasonCode.BLOB_NOT_FOUND if member is None else ReasonCode.SIZE_MISMATCH,
                f"{blob.name} is not in the bundle as it must be: have it made again",
                expected=f"{blob.size} bytes",
                found="nothing" if member is None else f"{member.size} bytes",
            )
        return self._archive.stream(name, start)


class _ArchiveSource:
    """A `registry.source.Source` of a bundle's small members."""

    def __init__(self, archive: Archive, place: Callable[[str], str]) -> None:
        self._archive = archive
        self._place = place

    def read(self, name: str) -> Iterator[bytes]:
        """Return the content; see `Source`."""
        place = self._place(name)
        if not self._archive.has(place):
            raise NotThereError(f"{place} is not in the bundle")
        return self._pieces(place)

    def _pieces(self, place: str) -> Iterator[bytes]:
        try:
            yield from self._archive.stream(place)
        except BundleError as error:
            raise SourceError(str(error)) from error
