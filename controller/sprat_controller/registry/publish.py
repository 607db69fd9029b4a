"""Publishing a release: named checks over what was uploaded, then all of it or nothing.

The controller cannot make a release up: it takes only manifests that a registered publisher signed.
Devices check the signature again; these checks are so that a mistake is found here, once, by name,
and not on ten thousand devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from sprat_proto import canonical
from sprat_proto.assignment import EnvelopeRef
from sprat_proto.manifest import (
    MAX_ENVELOPE_BYTES,
    PAYLOAD_TYPE,
    Manifest,
    ManifestError,
    decode,
    is_model_name,
    is_release_version,
)
from sprat_proto.signing import SignatureRefusedError, TrustedKey, verify
from sqlmodel import Session, col, func, select

from sprat_controller.audit import log
from sprat_controller.audit.tags import Tag
from sprat_controller.errors import ConflictError, RefusedError, RequestError
from sprat_controller.registry import model_files
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.registry.publishers import trusted
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Blob, Release, Variant

MAX_VARIANTS: Final = 64


@dataclass(frozen=True)
class Signed:
    """One variant as it was uploaded: its envelope opened, its signature good."""

    envelope: EnvelopeRef
    signer: TrustedKey
    payload: bytes
    manifest: Manifest

    @property
    def digest(self) -> str:
        """The variant's identity."""
        return canonical.sha256_hex(self.payload)


@dataclass(frozen=True)
class Submission:
    """A release as somebody wants it published."""

    model: str
    release: str
    variants: tuple[Signed, ...]


class Shelf:
    """What the checks may look at: the uploaded blobs and the releases that there are."""

    def __init__(self, session: Session, blobs: BlobStore) -> None:
        self._session = session
        self.blobs = blobs

    def size(self, sha256: str) -> int | None:
        """Return the size of a blob that was uploaded, or None."""
        row = self._session.get(Blob, sha256)
        return row.size if row else None

    def highest_counter(self, model: str, *, except_release: str) -> int:
        """Return the highest counter of the model's other releases, 0 if there is none."""
        highest = select(func.max(col(Release.counter))).where(
            col(Release.model) == model, col(Release.release) != except_release
        )
        return self._session.exec(highest).one() or 0


# Each check yields what is wrong, a sentence each; the first one is what is told.
Check: TypeAlias = Callable[[Submission, Shelf], Iterator[str]]


def publish(
    database: Database,
    blobs: BlobStore,
    *,
    model: str,
    release: str,
    envelopes: Sequence[str],
    actor: str,
    now: datetime,
) -> bool:
    """Check and keep a release; return False if exactly this was published before.

    Args:
        database: Where releases are kept.
        blobs: Where everything was uploaded to.
        model: As the caller names it.
        release: As the caller names it.
        envelopes: SHA-256 of each variant's signed manifest.
        actor: Who publishes, as it stands in the audit log.
        now: The caller's clock.

    Raises:
        RequestError: `bad_release`: the request itself makes no sense.
        RefusedError: `release_refused`; `details` has the check's name. It is written down.
        ConflictError: `release_exists` with other variants.
    """
    _check_request(model, release, envelopes)
    try:
        submission = _open(database, blobs, model, release, envelopes)
        with database.reading() as session:
            _run(FILE_CHECKS, submission, Shelf(session, blobs))
        with database.transaction() as session:
            _run(ROW_CHECKS, submission, Shelf(session, blobs))
            return _keep(session, submission, actor, now)
    except RefusedError as refusal:
        with database.transaction() as session:
            log.append(
                session,
                Tag.RELEASE_REFUSED,
                at=now,
                actor=actor,
                subject=f"release/{model}@{release}",
                outcome="denied",
                detail={"message": refusal.message, **refusal.details},
            )
        raise


def check_identity(submission: Submission, _shelf: Shelf) -> Iterator[str]:
    """Every manifest is of the model and the release that the caller named."""
    asked = f"{submission.model}@{submission.release}"
    for variant in submission.variants:
        found = f"{variant.manifest.model}@{variant.manifest.release}"
        if found != asked:
            yield f"expected manifests of {asked}, found one of {found}"


def check_variants(submission: Submission, _shelf: Shelf) -> Iterator[str]:
    """No two variants have the same name."""
    names = [variant.manifest.variant for variant in submission.variants]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"expected each variant once, found {name} {names.count(name)} times"


def check_counter(submission: Submission, shelf: Shelf) -> Iterator[str]:
    """All variants have one counter, higher than that of any other release of the model."""
    counters = sorted({variant.manifest.release_counter for variant in submission.variants})
    if len(counters) != 1:
        yield f"expected one release counter for all variants, found {counters}"
    highest = shelf.highest_counter(submission.model, except_release=submission.release)
    if counters[0] <= highest:
        yield (
            f"expected a release counter above {highest}, the highest of {submission.model},"
            f" found {counters[0]}: devices would refuse it as a step back"
        )


def check_blobs(submission: Submission, shelf: Shelf) -> Iterator[str]:
    """Every blob that a manifest names was uploaded, and has the size that it names."""
    for variant in submission.variants:
        for sha256, size in variant.manifest.blobs():
            found = shelf.size(sha256)
            if found is None:
                yield f"{variant.manifest.name} needs the blob {sha256}, which was not uploaded"
            elif found != size:
                yield f"expected the blob {sha256} to have {size} bytes, found {found}"


def check_model_files(submission: Submission, shelf: Shelf) -> Iterator[str]:
    """Shards and adapters are model files, cut into the pieces that the manifest lists."""
    for variant in submission.variants:
        yield from model_files.faults(variant.manifest, shelf.blobs)


# Those that read files run before the transaction, which holds the one writer's place.
FILE_CHECKS: Final[dict[str, Check]] = {
    "identity": check_identity,
    "variants": check_variants,
    "counter": check_counter,
    "blobs": check_blobs,
    "model_files": check_model_files,
}
# What another request may have changed meanwhile is checked again inside it.
ROW_CHECKS: Final[dict[str, Check]] = {"counter": check_counter, "blobs": check_blobs}


def _check_request(model: str, release: str, envelopes: Sequence[str]) -> None:
    if not is_model_name(model) or not is_release_version(release):
        raise RequestError(
            "bad_release",
            "expected a model's name of a-z, 0-9 and ._- and a release such as 1.3.0, found"
            f" {model[:80]!r} and {release[:80]!r}",
        )
    if not 1 <= len(envelopes) <= MAX_VARIANTS or len(set(envelopes)) != len(envelopes):
        raise RequestError(
            "bad_release",
            f"expected 1 to {MAX_VARIANTS} different envelopes, found {len(envelopes)}"
            f" of which {len(set(envelopes))} differ",
        )


def _open(
    database: Database, blobs: BlobStore, model: str, release: str, envelopes: Sequence[str]
) -> Submission:
    """Read and verify all envelopes: the checks `envelope`, `signature` and `manifest`."""
    with database.reading() as session:
        shelf, keys = Shelf(session, blobs), trusted(session)
        refs = [_ref(sha256, shelf) for sha256 in envelopes]
    return Submission(model, release, tuple(_open_one(ref, blobs, keys) for ref in refs))


def _ref(sha256: str, shelf: Shelf) -> EnvelopeRef:
    size = shelf.size(sha256)
    if size is None:
        raise _refused("envelope", f"the envelope {sha256} was not uploaded")
    if size > MAX_ENVELOPE_BYTES:
        raise _refused(
            "envelope",
            f"expected an envelope of at most {MAX_ENVELOPE_BYTES} bytes, found {size} in {sha256}",
        )
    return EnvelopeRef(sha256, size)


def _open_one(ref: EnvelopeRef, blobs: BlobStore, keys: Sequence[TrustedKey]) -> Signed:
    data = blobs.find(ref.sha256).read_bytes()
    if canonical.sha256_hex(data) != ref.sha256:
        raise _refused("envelope", f"the envelope {ref.sha256} was damaged here: upload it again")
    try:
        verified = verify(data, PAYLOAD_TYPE, keys)
    except SignatureRefusedError as error:
        raise _refused(
            "signature",
            f"the envelope {ref.sha256[:12]}: {error}",
            code=error.code.value,
            expected=error.expected,
            found=error.found,
        ) from error
    try:
        manifest = decode(verified.payload)
    except ManifestError as error:
        raise _refused("manifest", f"the envelope {ref.sha256[:12]}: {error}") from error
    return Signed(ref, verified.signers[0], verified.payload, manifest)


def _run(checks: dict[str, Check], submission: Submission, shelf: Shelf) -> None:
    for name, check in checks.items():
        for fault in check(submission, shelf):
            raise _refused(name, fault)


def _keep(session: Session, submission: Submission, actor: str, now: datetime) -> bool:
    name = f"{submission.model}@{submission.release}"
    digests = {variant.digest for variant in submission.variants}
    if session.get(Release, (submission.model, submission.release)) is not None:
        same = (col(Variant.model) == submission.model) & (
            col(Variant.release) == submission.release
        )
        if set(session.exec(select(Variant.digest).where(same))) == digests:
            return False
        raise ConflictError(
            "release_exists",
            f"{name} is published already with other variants, and a release never changes:"
            " choose the next version",
        )
    counter = submission.variants[0].manifest.release_counter
    session.add(
        Release(
            model=submission.model,
            release=submission.release,
            counter=counter,
            created_at=now,
            pushed_by=actor,
        )
    )
    session.add_all(_row(variant) for variant in submission.variants)
    log.append(
        session,
        Tag.RELEASE_PUBLISHED,
        at=now,
        actor=actor,
        subject=f"release/{name}",
        detail={
            "counter": counter,
            "variants": {one.manifest.variant: one.digest for one in submission.variants},
            "signers": sorted({one.signer.name for one in submission.variants}),
        },
    )
    return True


def _row(variant: Signed) -> Variant:
    return Variant(
        digest=variant.digest,
        model=variant.manifest.model,
        release=variant.manifest.release,
        variant=variant.manifest.variant,
        manifest=variant.payload,
        envelope_sha256=variant.envelope.sha256,
        envelope_size=variant.envelope.size,
        signer_key_id=variant.signer.key_id,
    )


def _refused(check: str, message: str, **details: object) -> RefusedError:
    return RefusedError("release_refused", f"check {check}: {message}", {"check": check, **details})
