"""From a GGUF file to a published release: quantize, sign, upload, announce.

Nothing is visible on the controller before the last step, and blobs that are there already are not
sent again, so a push that broke off is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from sprat_proto.signing import SigningKey

from sprat_controller.registry.quantize import quantize
from sprat_controller.registry.signing import ReleaseTerms, SignedVariant, sign_variant

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

    def publish(self, model: str, release: str, envelopes: Sequence[str]) -> None:
        """Announce a release by the digests of its uploaded envelopes."""
        ...


def make_variants(
    source: Path,
    kinds: Sequence[str],
    terms: ReleaseTerms,
    key: SigningKey,
    *,
    folder: Path,
    report: Report,
) -> list[SignedVariant]:
    """Quantize and sign each variant; the files land in `folder`.

    Raises:
        QuantizeError: A variant cannot be made.
        ModelFileError: The source, or what was made of it, is no model that Sprat runs.
    """
    made: list[SignedVariant] = []
    for number, kind in enumerate(kinds):
        report(f"quantizing {kind}", number, len(kinds))
        path = folder / f"{terms.model}-{terms.release}-{kind}.gguf"
        quantize(source, path, kind)
        made.append(sign_variant(path, kind, terms, key))
    report("quantized and signed", len(kinds), len(kinds))
    return made


def upload(variants: Sequence[SignedVariant], destination: Destination, report: Report) -> None:
    """Send what the destination does not have yet, then announce the release."""
    for variant in variants:
        _upload_file(variant, destination, report)
    for variant in variants:
        if not destination.has_blob(variant.envelope_ref.sha256):
            destination.put_bytes(variant.envelope_ref.sha256, variant.envelope)
    first = variants[0].manifest
    envelopes = [variant.envelope_ref.sha256 for variant in variants]
    destination.publish(first.model, first.release, envelopes)


def _upload_file(variant: SignedVariant, destination: Destination, report: Report) -> None:
    shard = variant.manifest.shards[0]
    what = f"uploading {variant.manifest.variant}"
    report(what, 0, shard.size)
    if not destination.has_blob(shard.sha256):
        destination.put_file(
            shard.sha256, variant.path, lambda sent: report(what, sent, shard.size)
        )
    report(what, shard.size, shard.size)
