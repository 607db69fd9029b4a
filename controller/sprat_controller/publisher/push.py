"""From a GGUF file to a published release: quantize, upload, sign, announce.

Nothing is visible on the controller before the last step, and blobs that are there already are not
sent again, so a push that broke off is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

# The name below is the library's documented API; it re-exports it without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from sprat_proto import canonical
from sprat_proto.manifest import Adapter, Shard

from sprat_controller.publisher.manifests import BuiltVariant, ReleaseTerms, build_manifest
from sprat_controller.publisher.quantize import quantize
from sprat_controller.publisher.signing import with_release

# What is being done, how much of it is done, and how much there is.
Report: TypeAlias = Callable[[str, int, int], None]


class Destination(Protocol):
    """Where a release goes: the controller's API, or a simulator of it."""

    def has_blob(self, sha256: str) -> bool:
        """Tell whether the blob is there, whole."""
        ...

    def put_file(self, sha256: str, path: Path, sent: Callable[[int], None]) -> None:
        """Upload a file as a blob, telling how many bytes were sent so far."""
        ...

    def put_bytes(self, sha256: str, data: bytes) -> None:
        """Upload a small blob."""
        ...

    def role_metadata(self, publisher: str) -> bytes | None:
        """Return the newest metadata of a publisher's role; None: there is none yet."""
        ...

    def publish(self, release: ReleaseTerms, metadata: str) -> None:
        """Announce a release by the digest of the uploaded next metadata of its publisher."""
        ...


def make_variants(
    source: Path,
    kinds: Sequence[str],
    terms: ReleaseTerms,
    *,
    folder: Path,
    report: Report,
) -> list[BuiltVariant]:
    """Quantize each variant and build its manifest; the files land in `folder`.

    Raises:
        QuantizeError: A variant cannot be made.
        ModelFileError: The source, or what was made of it, is no model that Sprat runs.
    """
    made: list[BuiltVariant] = []
    for number, kind in enumerate(kinds):
        report(f"quantizing {kind}", number, len(kinds))
        path = folder / f"{terms.model}-{terms.release}-{kind}.gguf"
        quantize(source, path, kind)
        made.append(BuiltVariant(path, build_manifest(path, kind, terms)))
    report("quantized", len(kinds), len(kinds))
    return made


def upload(
    variants: Sequence[BuiltVariant],
    terms: ReleaseTerms,
    key: Signer,
    destination: Destination,
    report: Report,
) -> None:
    """Send what the destination does not have yet, then sign and announce the release.

    Raises:
        MetadataError: The destination's metadata of this publisher was not signed by this key.
    """
    for variant in variants:
        shard = variant.manifest.shards[0]
        what = f"uploading {variant.manifest.variant}"
        _upload_file(shard, variant.path, destination, partial(report, what))
        for source, adapter in zip(terms.adapters, variant.manifest.adapters, strict=True):
            what = f"uploading adapter {adapter.name}"
            _upload_file(adapter, source.path, destination, partial(report, what))
        _upload_bytes(variant.payload, destination)
    newest = destination.role_metadata(terms.publisher)
    metadata = with_release(newest, variants, key, terms.created)
    destination.publish(terms, _upload_bytes(metadata, destination))


def _upload_bytes(data: bytes, destination: Destination) -> str:
    sha256 = canonical.sha256_hex(data)
    if not destination.has_blob(sha256):
        destination.put_bytes(sha256, data)
    return sha256


def _upload_file(
    stated: Shard | Adapter,
    path: Path,
    destination: Destination,
    report: Callable[[int, int], None],
) -> None:
    report(0, stated.size)
    if not destination.has_blob(stated.sha256):
        destination.put_file(stated.sha256, path, lambda sent: report(sent, stated.size))
    report(stated.size, stated.size)
