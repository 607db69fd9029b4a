"""From an original to a published release: quantize, evaluate, upload, sign, announce.

Nothing is visible on the controller before the last step, and blobs that are there already are not
sent again, so a push that broke off is simply run again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

# The name below is the library's documented API; it re-exports it without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from sprat_proto import canonical, gguf
from sprat_proto.manifest import Adapter, Evaluation, Shard

from sprat_controller.publisher.evaluate.calibration import sha256_of
from sprat_controller.publisher.evaluate.evaluate import Scores, evaluate
from sprat_controller.publisher.manifests import BuiltVariant, ReleaseTerms, build_manifest
from sprat_controller.publisher.mixes import tensor_bytes
from sprat_controller.publisher.originals import Original, Report
from sprat_controller.publisher.quantize import TERNARY, QuantizeError, quantize
from sprat_controller.publisher.signing import with_release


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


@dataclass(frozen=True)
class Comparison:
    """On what variants are compared with the original.

    Attributes:
        text: What is predicted.
        tokens: How many are scored.
        has_rates: Rates and memory on this machine are measured too.
    """

    text: str
    tokens: int
    has_rates: bool = True

    @property
    def text_sha256(self) -> str:
        """The text's identity."""
        return sha256_of(self.text)


def make_variants(
    original: Original, kinds: Sequence[str], folder: Path, name: str, report: Report
) -> dict[str, Path]:
    """Write each variant into a folder, as `NAME-KIND.gguf`; return the files in order.

    Raises:
        QuantizeError: A variant cannot be made, or there is no room for all of them.
    """
    _check_room(original, kinds, folder)
    files = {kind: folder / f"{name}-{kind}.gguf" for kind in kinds}
    # Ternary ones first: they are refused for most models, and that should not take an hour.
    for kind in sorted(kinds, key=lambda kind: kind not in TERNARY):
        what = f"quantizing {kind}"
        report(what, 0, 1)
        quantize(original.path, files[kind], kind, done=partial(report, what))
        report(what, 1, 1)
    return files


def _check_room(original: Original, kinds: Sequence[str], folder: Path) -> None:
    tensors = [(one.name, one.dims) for one in gguf.check(original.path).tensors]
    needed = sum(sum(tensor_bytes(tensors, kind).values()) for kind in kinds)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise QuantizeError(
            f"expected {needed >> 20} MiB free in {folder} for {', '.join(kinds)}, found"
            f" {free >> 20} MiB: choose another place with --scratch"
        )


def compare(
    original: Original,
    files: Mapping[str, Path],
    comparison: Comparison,
    scratch: Path,
    report: Report,
) -> list[Scores]:
    """Return what each variant lost against the original.

    Raises:
        EvaluateError: They cannot be compared.
    """
    return evaluate(
        original.path,
        # What is the original itself lost nothing, and need not be computed to know it.
        {kind: original.path if kind == original.kind else path for kind, path in files.items()},
        comparison.text,
        scratch=scratch,
        report=report,
        limit=comparison.tokens,
        rates=comparison.has_rates,
    )


def build(
    files: Mapping[str, Path], terms: ReleaseTerms, evaluations: Mapping[str, Evaluation]
) -> list[BuiltVariant]:
    """Return each variant with its manifest.

    Raises:
        ModelFileError: What was made is no model that Sprat runs, or an adapter does not fit it.
        ManifestError: The terms do not make a valid manifest.
    """
    return [
        BuiltVariant(path, build_manifest(path, kind, terms, evaluations.get(kind)))
        for kind, path in files.items()
    ]


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
