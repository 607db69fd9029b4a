"""The registry of `sync.ports`, with files on this device's disk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sprat_proto import canonical, gguf
from sprat_proto.assignment import AssignedModel
from sprat_proto.manifest import MAX_ENVELOPE_BYTES, PIECE_SIZE, Adapter, Manifest
from sprat_proto.signing import TrustedKey
from sprat_proto.states import ReasonCode

from sprat_agent.registry.blocking import Stop, in_thread
from sprat_agent.registry.fetch import Download, Fetcher
from sprat_agent.registry.partial import Blob
from sprat_agent.registry.store import Store
from sprat_agent.registry.trust import SignedManifest, trusted_manifest
from sprat_agent.sync.ports import ExecutionError, Installed, Loadable, ShardFile

RESERVE_BYTES: Final = 16 << 20  # stays free for the state file and the device's own needs
_READ_BYTES: Final = 1 << 20


def free_bytes(folder: Path) -> int:
    """Return the bytes that may still be written to the folder's disk."""
    return shutil.disk_usage(folder).free


class LocalRegistry:
    """Fetches, verifies and keeps signed models; see `sync.ports.Registry`."""

    def __init__(
        self,
        store: Store,
        fetcher: Fetcher,
        publishers: Sequence[TrustedKey],
        *,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._publishers = publishers
        self._free = free

    async def download(self, wanted: AssignedModel) -> None:
        """Fetch the signed manifest and all blobs it names; see `Registry`."""
        _check_envelope_size(wanted)
        missing = await in_thread(lambda _: self._missing_blocking(wanted))
        if missing == []:
            return
        async with self._fetcher.opened() as download:
            await self._fetch(download, [_envelope_blob(wanted)])
            signed = await in_thread(lambda _: self._signed_blocking(wanted))
            blobs = _blobs_of(signed.manifest)
            await in_thread(lambda _: self._check_space_blocking(signed.manifest))
            await self._fetch(download, blobs)

    async def verify(self, wanted: AssignedModel) -> Manifest:
        """Check signature, digest, and every blob's bytes; see `Registry`."""
        return await in_thread(lambda stop: self._verify_blocking(wanted, stop))

    async def install(self, wanted: AssignedModel) -> None:
        """Make the version's folder; see `Registry`."""
        await in_thread(lambda _: self._install_blocking(wanted))

    async def open_installed(self, wanted: AssignedModel, context: int) -> Installed:
        """Return an installed version again; see `Registry`."""
        return await in_thread(lambda _: self._open_blocking(wanted, context))

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
            signed = self._signed_blocking(wanted)
        except FileNotFoundError:
            return None
        has = self._store.has_blob
        return [blob for blob in _blobs_of(signed.manifest) if not has(blob.sha256, blob.size)]

    def _signed_blocking(self, wanted: AssignedModel) -> SignedManifest:
        """Return the manifest that was installed or fetched, verified anew.

        Raises:
            FileNotFoundError: It is neither, or no longer the same bytes.
            ExecutionError: It is not what was signed or assigned.
        """
        return trusted_manifest(self._envelope_blocking(wanted), wanted, self._publishers)

    def _envelope_blocking(self, wanted: AssignedModel) -> bytes:
        sha256 = wanted.envelope.sha256
        try:
            installed = self._store.envelope(wanted.digest)
        except FileNotFoundError:
            installed = b""
        if canonical.sha256_hex(installed) == sha256:
            return installed
        fetched = self._store.blob(sha256).read_bytes()
        if canonical.sha256_hex(fetched) != sha256:
            self._store.remove_blob(sha256)
            raise FileNotFoundError(sha256)
        return fetched

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
            signed = self._signed_blocking(wanted).manifest
        except FileNotFoundError as error:
            raise _gone(wanted) from error
        for blob in _blobs_of(signed):
            self._verify_blob(blob, stop)
        paths = [self._store.blob(shard.sha256) for shard in signed.shards]
        try:
            gguf.check(paths[0])
            for path in paths[1:]:
                gguf.read(path)  # only the first part describes the model
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

    def _install_blocking(self, wanted: AssignedModel) -> None:
        try:
            envelope = self._envelope_blocking(wanted)
        except FileNotFoundError as error:
            raise _gone(wanted) from error
        if self._store.has_version(wanted.digest, envelope):
            return
        signed = trusted_manifest(envelope, wanted, self._publishers).manifest
        parts = zip(_part_names(signed), signed.shards, strict=True)
        links = {name: shard.sha256 for name, shard in parts}
        links |= {f"adapter-{one.name}.gguf": one.sha256 for one in signed.adapters}
        self._store.install(wanted.digest, envelope, links)

    def _open_blocking(self, wanted: AssignedModel, context: int) -> Installed:
        try:
            envelope = self._store.envelope(wanted.digest)
        except FileNotFoundError as error:
            raise _gone(wanted) from error
        signed = trusted_manifest(envelope, wanted, self._publishers)
        parts = zip(_part_names(signed.manifest), signed.manifest.shards, strict=True)
        place = self._store.version_file
        loadable = Loadable(
            alias=wanted.alias,
            model=wanted.model,
            release=wanted.release,
            variant=wanted.variant,
            digest=wanted.digest,
            signer=signed.signer,
            files=tuple(
                ShardFile(place(wanted.digest, name), shard.sha256, shard.size)
                for name, shard in parts
            ),
            facts=signed.manifest.facts,
            context=context,
        )
        return Installed(signed.manifest, loadable)

    def _collect_blocking(self, keep: frozenset[str]) -> int:
        self._store.remove_versions(self._store.versions() - keep)
        blobs: set[str] = set()
        for digest in self._store.versions():
            blobs |= self._store.blobs_of(digest)
        return self._store.keep_blobs(frozenset(blobs)) + self._store.remove_partials()


def _check_envelope_size(wanted: AssignedModel) -> None:
    if wanted.envelope.size > MAX_ENVELOPE_BYTES:
        raise ExecutionError(
            ReasonCode.MANIFEST_INVALID,
            f"the signed manifest of {_name(wanted)} is to have at most {MAX_ENVELOPE_BYTES} bytes,"
            f" and is assigned with {wanted.envelope.size}",
            expected=f"at most {MAX_ENVELOPE_BYTES} bytes",
            found=f"{wanted.envelope.size} bytes",
        )


def _envelope_blob(wanted: AssignedModel) -> Blob:
    """Return the signed manifest as a blob of one piece."""
    sha256, size = wanted.envelope.sha256, wanted.envelope.size
    what = f"the signed manifest of {_name(wanted)}"
    return Blob(what, sha256, size, max(size, 1), [sha256] if size else [])


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


def _hash(path: Path, stop: Stop) -> tuple[int, str]:
    """Return size and hex SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            stop.check()
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()


def _gone(wanted: AssignedModel) -> ExecutionError:
    return ExecutionError(
        ReasonCode.BLOB_NOT_FOUND,
        f"{_name(wanted)} is no longer on this device: roll out again",
        expected=f"the signed manifest of {wanted.digest}",
        found="no file",
    )


def _name(wanted: AssignedModel) -> str:
    return f"{wanted.model}@{wanted.release}+{wanted.variant}"
