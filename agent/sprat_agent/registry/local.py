"""The registry of `sync.ports`, with files on this device's disk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from sprat_proto import canonical, gguf, gguf_adapter
from sprat_proto.assignment import AssignedModel
from sprat_proto.manifest import MAX_MANIFEST_BYTES, PIECE_SIZE, Adapter, Manifest
from sprat_proto.states import ReasonCode

from sprat_agent.registry import evidence
from sprat_agent.registry.blocking import Stop, in_thread
from sprat_agent.registry.judge import Judge, Permission
from sprat_agent.registry.partial import NO_SPACE, Blob
from sprat_agent.registry.store import Store
from sprat_agent.registry.trust import check_manifest, check_released, check_same
from sprat_agent.registry.tuf_client import Anchor
from sprat_agent.sync.ports import (
    AdapterFile,
    Admit,
    ExecutionError,
    Fetched,
    Installed,
    Loadable,
    Serving,
    ShardFile,
    admit_all,
)

RESERVE_BYTES: Final = 16 << 20  # stays free for the state file and the device's own needs
_READ_BYTES: Final = 1 << 20


def free_bytes(folder: Path) -> int:
    """Return the bytes that may still be written to the folder's disk."""
    return shutil.disk_usage(folder).free


class Download(Protocol):
    """Something that is open and gives blobs."""

    async def fetch(self, blob: Blob, path: Path) -> None:
        """Make `path` hold the whole, verified blob; see `fetch.Download`."""
        ...


class Fetcher(Protocol):
    """Where blobs come from: the network, or a bundle."""

    def opened(self) -> AbstractAsyncContextManager[Download]:
        """Yield what fetches."""
        ...


class LocalRegistry:
    """Fetches, verifies and keeps signed models; see `sync.ports.Registry`."""

    def __init__(
        self,
        store: Store,
        fetcher: Fetcher,
        judge: Judge,
        anchor: Anchor,
        hardware_id: str,
        *,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        """Keep models in a store.

        Args:
            store: Where files are.
            fetcher: Where blobs come from.
            judge: Asked before anything is fetched or installed.
            anchor: Of the image repository: from there on what is installed is proved anew.
            hardware_id: Of this device.
            free: Bytes free for a folder.
        """
        self._store = store
        self._fetcher = fetcher
        self._judge = judge
        self._anchor = anchor
        self._hardware_id = hardware_id
        self._free = free

    async def download(self, wanted: AssignedModel, admit: Admit = admit_all) -> None:
        """Ask both repositories, fetch the manifest and all blobs it names; see `Registry`."""
        with _full_disk_said(wanted):
            await self._download(wanted, admit)

    async def _download(self, wanted: AssignedModel, admit: Admit) -> None:
        _check_manifest_size(wanted)
        permission = await self._judge.permit(wanted)
        missing = await in_thread(lambda _: self._missing_blocking(wanted))
        if missing == []:
            await admit(await self.fetched(wanted))
            return
        async with self._fetcher.opened() as download:
            await self._fetch(download, [_manifest_blob(wanted)])
            decoded = await in_thread(lambda _: self._manifest_blocking(wanted))
            check_same(decoded, permission.named)
            await admit(await self.fetched(wanted))
            blobs = _blobs_of(decoded)
            await in_thread(lambda _: self._check_space_blocking(decoded))
            await self._fetch(download, blobs)

    async def fetched(self, wanted: AssignedModel) -> Fetched:
        """Return what was fetched by its manifest; see `Registry`."""
        return await in_thread(lambda _: self._fetched_blocking(wanted))

    async def verify(self, wanted: AssignedModel) -> Manifest:
        """Check digest, names, and every blob's bytes; see `Registry`."""
        return await in_thread(lambda stop: self._verify_blocking(wanted, stop))

    async def install(self, wanted: AssignedModel) -> None:
        """Ask both repositories again and make the version's folder; see `Registry`."""
        with _full_disk_said(wanted):
            permission = await self._judge.permit(wanted)
            await in_thread(lambda _: self._install_blocking(wanted, permission))

    async def open_installed(self, wanted: AssignedModel, context: int) -> Installed:
        """Return an installed version again; see `Registry`."""
        return await in_thread(lambda _: self._open_blocking(wanted, context))

    async def superfluous(self, keep: frozenset[str]) -> frozenset[str]:
        """Return what no kept version is; see `Registry`."""
        return await in_thread(lambda _: self._store.versions() - keep)

    async def collect_garbage(self, keep: frozenset[str]) -> int:
        """Remove what no kept version needs; see `Registry`."""
        return await in_thread(lambda _: self._collect_blocking(keep))

    async def _fetch(self, download: Download, blobs: Sequence[Blob]) -> None:
        for blob in blobs:
            if not self._store.has_blob(blob.sha256, blob.size):
                await download.fetch(blob, self._store.partial(blob.sha256))
                await in_thread(lambda _, sha256=blob.sha256: self._store.adopt(sha256))

    def _missing_blocking(self, wanted: AssignedModel) -> list[Blob] | None:
        """Return what is still to be fetched; None if the manifest itself is."""
        try:
            decoded = self._manifest_blocking(wanted)
        except FileNotFoundError:
            return None
        has = self._store.has_blob
        return [blob for blob in _blobs_of(decoded) if not has(blob.sha256, blob.size)]

    def _manifest_blocking(self, wanted: AssignedModel) -> Manifest:
        """Return the manifest that was installed or fetched.

        Raises:
            FileNotFoundError: It is neither, or no longer the same bytes.
            ExecutionError: It is not what was assigned.
        """
        return check_manifest(self._manifest_bytes_blocking(wanted), wanted)

    def _manifest_bytes_blocking(self, wanted: AssignedModel) -> bytes:
        try:
            installed = self._store.manifest(wanted.digest)
        except FileNotFoundError:
            installed = b""
        if canonical.sha256_hex(installed) == wanted.digest:
            return installed
        fetched = self._store.blob(wanted.digest).read_bytes()
        if canonical.sha256_hex(fetched) != wanted.digest:
            self._store.remove_blob(wanted.digest)
            raise FileNotFoundError(wanted.digest)
        return fetched

    def _fetched_blocking(self, wanted: AssignedModel) -> Fetched:
        try:
            signed = self._manifest_blocking(wanted)
        except FileNotFoundError as error:
            raise _gone(wanted) from error
        return Fetched(signed, self._store.bytes_missing(signed.blobs()))

    def _check_space_blocking(self, signed: Manifest) -> None:
        missing = self._store.bytes_missing(signed.blobs())
        needed = missing + RESERVE_BYTES if missing else 0
        free = self._free(self._store.root)
        if needed > free:
            raise ExecutionError(
                ReasonCode.INSUFFICIENT_DISK,
                f"{signed.name} needs {needed} bytes of disk and {free} are free: free some space"
                " and roll out again",
                expected=f"{needed} bytes",
                found=f"{free} bytes",
            )

    def _verify_blocking(self, wanted: AssignedModel, stop: Stop) -> Manifest:
        try:
            signed = self._manifest_blocking(wanted)
        except FileNotFoundError as error:
            raise _gone(wanted) from error
        for blob in _blobs_of(signed):
            self._verify_blob(blob, stop)
        paths = [self._store.blob(shard.sha256) for shard in signed.shards]
        try:
            parts = [gguf.check(paths[0])]
            # Only the first part describes the model.
            parts.extend(gguf.read(path) for path in paths[1:])
            for adapter in signed.adapters:
                gguf_adapter.check(self._store.blob(adapter.sha256), parts, adapter.name)
        except gguf.ModelFileError as error:
            raise ExecutionError(
                ReasonCode.MODEL_FILE_INVALID, f"{signed.name} cannot be loaded: {error}"
            ) from error
        return signed

    def _verify_blob(self, blob: Blob, stop: Stop) -> None:
        path = self._store.blob(blob.sha256)
        try:
            size, found = _hash(path, stop)
        except FileNotFoundError as error:
            raise ExecutionError(
                ReasonCode.BLOB_NOT_FOUND,
                f"{blob.name} is no longer on this device: roll out again",
                expected=f"blob {blob.sha256}",
                found="no file",
            ) from error
        if found != blob.sha256:
            # What is damaged must not stand in the way of fetching it again.
            self._store.remove_blob(blob.sha256)
            raise ExecutionError(
                ReasonCode.SIZE_MISMATCH if size != blob.size else ReasonCode.DIGEST_MISMATCH,
                f"{blob.name} is to have {blob.size} bytes and SHA-256 {blob.sha256[:12]}; on disk"
                f" it has {size} bytes and {found[:12]}: refusing it",
                expected=blob.sha256 if size == blob.size else f"{blob.size} bytes",
                found=found if size == blob.size else f"{size} bytes",
            )

    def _install_blocking(self, wanted: AssignedModel, permission: Permission) -> None:
        try:
            data = self._manifest_bytes_blocking(wanted)
        except FileNotFoundError as error:
            raise _gone(wanted) from error
        decoded = check_manifest(data, wanted)
        check_same(decoded, permission.named)
        if self._is_installed(wanted):
            return
        parts = zip(_part_names(decoded), decoded.shards, strict=True)
        links = {name: shard.sha256 for name, shard in parts}
        links |= {_adapter_file(one): one.sha256 for one in decoded.adapters}
        self._store.install(wanted.digest, data, permission.evidence, links)

    def _is_installed(self, wanted: AssignedModel) -> bool:
        try:
            self._proved_blocking(wanted)
        except ExecutionError:
            return False
        return True

    def _proved_blocking(self, wanted: AssignedModel) -> tuple[Manifest, str]:
        """Return an installed version's manifest, proved anew, and who signed it."""
        try:
            data, proof = self._store.manifest(wanted.digest), self._store.evidence(wanted.digest)
        except FileNotFoundError as error:
            raise _gone(wanted) from error
        decoded = check_manifest(data, wanted)
        named = evidence.named_by(proof, wanted, self._anchor)
        released = check_released(wanted, named, self._hardware_id)
        check_same(decoded, released)
        return decoded, released.signer

    def _open_blocking(self, wanted: AssignedModel, context: int) -> Installed:
        proved, signer = self._proved_blocking(wanted)
        parts = zip(_part_names(proved), proved.shards, strict=True)
        place = self._store.version_file
        loadable = Loadable(
            alias=wanted.alias,
            model=wanted.model,
            release=wanted.release,
            variant=wanted.variant,
            digest=wanted.digest,
            signer=signer,
            files=tuple(
                ShardFile(place(wanted.digest, name), shard.sha256, shard.size)
                for name, shard in parts
            ),
            facts=proved.facts,
            context=context,
            chat_template=proved.chat_template,
            serving=Serving.by(wanted.terms),
            adapters=tuple(
                AdapterFile(
                    one.name,
                    ShardFile(place(wanted.digest, _adapter_file(one)), one.sha256, one.size),
                )
                for one in proved.adapters
            ),
        )
        return Installed(proved, loadable)

    def _collect_blocking(self, keep: frozenset[str]) -> int:
        self._store.remove_versions(self._store.versions() - keep)
        blobs: set[str] = set()
        for digest in self._store.versions():
            blobs |= self._store.blobs_of(digest)
        freed = self._store.keep_blobs(frozenset(blobs))
        return freed + self._store.remove_prefixes() + self._store.remove_partials()


def _check_manifest_size(wanted: AssignedModel) -> None:
    if wanted.size > MAX_MANIFEST_BYTES:
        raise ExecutionError(
            ReasonCode.MANIFEST_INVALID,
            f"the manifest of {wanted.name} is to have at most {MAX_MANIFEST_BYTES} bytes, and is"
            f" assigned with {wanted.size}",
            expected=f"at most {MAX_MANIFEST_BYTES} bytes",
            found=f"{wanted.size} bytes",
        )


def _manifest_blob(wanted: AssignedModel) -> Blob:
    """Return the manifest as a blob of one piece."""
    what, size = f"the manifest of {wanted.name}", wanted.size
    return Blob(what, wanted.digest, size, max(size, 1), [wanted.digest] if size else [])


def _blobs_of(signed: Manifest) -> list[Blob]:
    shards = [
        Blob(
            f"part {number} of {signed.name}",
            shard.sha256,
            shard.size,
            shard.piece_size,
            shard.pieces,
        )
        for number, shard in enumerate(signed.shards, start=1)
    ]
    return shards + [_adapter_blob(signed, adapter) for adapter in signed.adapters]


def _adapter_blob(signed: Manifest, adapter: Adapter) -> Blob:
    expected = -(-adapter.size // PIECE_SIZE)
    if len(adapter.pieces) != expected:
        raise ExecutionError(
            ReasonCode.MANIFEST_INVALID,
            f"the manifest of {signed.name} is to list {expected} pieces of adapter {adapter.name}"
            f" and lists {len(adapter.pieces)}",
            expected=f"{expected} pieces",
            found=f"{len(adapter.pieces)} pieces",
        )
    what = f"adapter {adapter.name} of {signed.name}"
    return Blob(what, adapter.sha256, adapter.size, PIECE_SIZE, adapter.pieces)


def _part_names(signed: Manifest) -> list[str]:
    """Return the file names of the parts: llama.cpp finds the others by the first."""
    count = len(signed.shards)
    return [f"model-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def _adapter_file(adapter: Adapter) -> str:
    return f"adapter-{adapter.name}.gguf"


def _hash(path: Path, stop: Stop) -> tuple[int, str]:
    """Return size and hex SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            stop.check()
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()


@contextmanager
def _full_disk_said(wanted: AssignedModel) -> Generator[None]:
    """Say of a file that could not be written whose it was, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise ExecutionError(
            ReasonCode.INSUFFICIENT_DISK,
            f"the disk was full while {wanted.name} was taken in: free some space and roll out"
            " again",
            expected="space for its files",
            found=str(error.strerror),
        ) from error


def _gone(wanted: AssignedModel) -> ExecutionError:
    return ExecutionError(
        ReasonCode.BLOB_NOT_FOUND,
        f"{wanted.name} is no longer on this device: roll out again",
        expected=f"the manifest {wanted.digest}",
        found="no file",
    )
