"""Publishing and retiring a release: named checks over what was uploaded, all of it or nothing.

The controller cannot make a release up: it takes only the next metadata of a publisher's role,
signed by the publisher, that names the manifests. Devices check all of it again; these checks are
so that a mistake is found here, once, by name, and not on ten thousand devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

# The names below are the library's documented API; it re-exports them without saying so.
# pyright: reportPrivateImportUsage=false
from sprat_proto import canonical
from sprat_proto.audit_events import Tag
from sprat_proto.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestError,
    decode,
    is_model_name,
    is_release_version,
)
from sprat_proto.trust import IMAGE, MAX_TARGETS_BYTES, custom_of, path_of, publisher_role
from sqlmodel import Session, col, func, select
from tuf.api.metadata import TargetFile, Targets

from sprat_controller.audit import changes, log
from sprat_controller.errors import ConflictError, NotFoundError, RefusedError, RequestError
from sprat_controller.registry import evaluations, model_files
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Blob, Release, Variant
from sprat_controller.trust import checks, repository
from sprat_controller.trust.checks import Change
from sprat_controller.trust.file_names import FileName
from sprat_controller.trust.repository import MetadataRefusedError, Upload
from sprat_controller.trust.words import MetadataError, read

MAX_VARIANTS: Final = 64


@dataclass(frozen=True)
class Request:
    """A release that somebody wants published or retired.

    Attributes:
        model: Its name.
        release: Its version.
        publisher: Whose it is.
        metadata: SHA-256 of the uploaded next metadata of the publisher's role.
        actor: Who asks, as it stands in the audit log.
        now: The caller's clock.
        unproven: Why the publisher did not ask it its golden prompts first; empty: it did.
    """

    model: str
    release: str
    publisher: str
    metadata: str
    actor: str
    now: datetime
    unproven: str = ""

    @property
    def name(self) -> str:
        """`model@release`."""
        return f"{self.model}@{self.release}"


@dataclass(frozen=True)
class Parts:
    """What publishing works with."""

    database: Database
    blobs: BlobStore
    signer: Signer


@dataclass(frozen=True)
class Stated:
    """One variant: the target that the publisher signed, and the manifest that it names."""

    path: str
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
    publisher: str
    variants: tuple[Stated, ...]
    # Paths of other releases that the new metadata names no longer or otherwise.
    disturbed: tuple[str, ...] = field(default=())


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

    def owner(self, model: str) -> str | None:
        """Return who published the model first; None: nobody yet."""
        whose = select(Variant.publisher).where(col(Variant.model) == model).limit(1)
        return self._session.exec(whose).first()


# Each check yields what is wrong, a sentence each; the first one is what is told.
Check: TypeAlias = Callable[[Submission, Shelf], Iterator[str]]


def publish(parts: Parts, request: Request) -> bool:
    """Check and keep a release; return False if exactly this was published before.

    Raises:
        RequestError: `bad_release`: the request itself makes no sense.
        RefusedError: `release_refused`; `details` has the check's name. It is written down.
        ConflictError: `release_exists` with other metadata.
        UnavailableError: The signer is away.
    """
    _check_request(request)
    try:
        version, data = _metadata(parts, request)
        if _was_published(parts, request, version, data):
            return False
        change = _change(parts, request, version, data)
        submission = _open(parts, request, change)
        with parts.database.reading() as session:
            _run(FILE_CHECKS, submission, Shelf(session, parts.blobs))
        with parts.database.transaction() as session:
            _run(ROW_CHECKS, submission, Shelf(session, parts.blobs))
            _publish_metadata(session, parts, request, change)
            _keep(session, submission, request)
    except RefusedError as refusal:
        _write_down(parts, request, refusal)
        raise
    return True


def retire(parts: Parts, request: Request) -> bool:
    """Take a release out of its publisher's metadata; return False if it was so before.

    Devices that run it go on; it is activated nowhere anew.

    Raises:
        NotFoundError: There is no such release.
        RefusedError: `release_refused`: as for `publish`.
    """
    _check_request(request)
    try:
        version, data = _metadata(parts, request)
        with parts.database.reading() as session:
            row = session.get(Release, (request.model, request.release))
            if row is None:
                raise NotFoundError("release_not_found", f"there is no release {request.name}")
            if row.retired_at is not None:
                return False
        change = _change(parts, request, version, data)
        _check_retired(parts, request, change)
        with parts.database.transaction() as session:
            _publish_metadata(session, parts, request, change)
            row = session.get_one(Release, (request.model, request.release))
            row.retired_at = request.now
            session.add(row)
            log.append(
                session,
                Tag.RELEASE_RETIRED,
                at=request.now,
                actor=request.actor,
                subject=f"release/{request.name}",
                before="released",
                after="retired",
                detail={"publisher": request.publisher, "version": version},
            )
    except RefusedError as refusal:
        _write_down(parts, request, refusal)
        raise
    return True


def check_kept(submission: Submission, _shelf: Shelf) -> Iterator[str]:
    """What was released before is still there, unchanged: a release never changes."""
    for path in submission.disturbed:
        yield f"expected {path} as it was, found it changed or gone: start from the newest metadata"


def check_identity(submission: Submission, _shelf: Shelf) -> Iterator[str]:
    """Every manifest is of the model and the release that the caller named."""
    asked = f"{submission.model}@{submission.release} of {submission.publisher}"
    for variant in submission.variants:
        stated = variant.manifest
        found = f"{stated.model}@{stated.release} of {stated.publisher}"
        if found != asked:
            yield f"expected manifests of {asked}, found one of {found}"


def check_owner(submission: Submission, shelf: Shelf) -> Iterator[str]:
    """A model's name belongs to who published it first."""
    owner = shelf.owner(submission.model)
    if owner not in (None, submission.publisher):
        yield f"the model {submission.model} is {owner}'s: choose another name"


def check_variants(submission: Submission, _shelf: Shelf) -> Iterator[str]:
    """There are some, and not too many."""
    if not 1 <= len(submission.variants) <= MAX_VARIANTS:
        yield f"expected 1 to {MAX_VARIANTS} variants, found {len(submission.variants)}"


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


def check_evaluation(submission: Submission, _shelf: Shelf) -> Iterator[str]:
    """What the manifests say of quality was measured alike and agrees with itself."""
    yield from evaluations.faults([variant.manifest for variant in submission.variants])


# Those that read files run before the transaction, which holds the one writer's place.
FILE_CHECKS: Final[dict[str, Check]] = {
    "variants": check_variants,
    "kept": check_kept,
    "identity": check_identity,
    "owner": check_owner,
    "counter": check_counter,
    "evaluation": check_evaluation,
    "blobs": check_blobs,
    "model_files": check_model_files,
}
# What another request may have changed meanwhile is checked again inside it.
ROW_CHECKS: Final[dict[str, Check]] = {
    "owner": check_owner,
    "counter": check_counter,
    "blobs": check_blobs,
}


def _check_request(request: Request) -> None:
    if (
        not is_model_name(request.model)
        or not is_release_version(request.release)
        or not is_model_name(request.publisher)
    ):
        raise RequestError(
            "bad_release",
            "expected names of a-z, 0-9 and ._- of a model and its publisher, and a release such as"
            f" 1.3.0, found {request.model[:80]!r}, {request.publisher[:80]!r} and"
            f" {request.release[:80]!r}",
        )


def _metadata(parts: Parts, request: Request) -> tuple[int, bytes]:
    """Return the uploaded metadata and the version that it says it has."""
    data = _read(parts, "metadata", request.metadata, MAX_TARGETS_BYTES)
    try:
        signed = read(data, Targets, publisher_role(request.publisher)).signed
    except MetadataError as error:
        raise _refused("metadata", str(error)) from error
    return signed.version, data


def _was_published(parts: Parts, request: Request, version: int, data: bytes) -> bool:
    with parts.database.reading() as session:
        if session.get(Release, (request.model, request.release)) is None:
            return False
        name = str(FileName(version, publisher_role(request.publisher)))
        try:
            is_same = repository.file(session, IMAGE, name) == data
        except NotFoundError:
            is_same = False
    if is_same:
        return True
    raise ConflictError(
        "release_exists",
        f"{request.name} is published already, and a release never changes: choose the next"
        " version",
    )


def _change(parts: Parts, request: Request, version: int, data: bytes) -> Change:
    """Return the change of the repository, after its own named checks."""
    name = str(FileName(version, publisher_role(request.publisher)))
    with parts.database.reading() as session:
        change = Change(repository.current(session, IMAGE), {name: data})
    fault = checks.fault(change, request.now)
    if fault is not None:
        raise _refused(*fault)
    return change


def _open(parts: Parts, request: Request, change: Change) -> Submission:
    """Read what the new targets name: the checks `manifest` and `target`."""
    before, after = _targets(change, request.publisher)
    new = {path: target for path, target in after.items() if path not in before}
    return Submission(
        request.model,
        request.release,
        request.publisher,
        tuple(_open_one(parts, path, target) for path, target in sorted(new.items())),
        tuple(path for path in before if after.get(path) != before[path]),
    )


def _open_one(parts: Parts, path: str, target: TargetFile) -> Stated:
    data = _read(parts, "manifest", target.hashes["sha256"], MAX_MANIFEST_BYTES)
    try:
        manifest = decode(data)
    except ManifestError as error:
        raise _refused("manifest", f"{path}: {error}") from error
    if path_of(manifest) != path or len(data) != target.length:
        raise _refused(
            "target",
            f"expected {path} with {target.length} bytes, found the manifest of"
            f" {path_of(manifest)} with {len(data)}",
        )
    if checks.custom_of(target) != custom_of(manifest):
        raise _refused(
            "target",
            f"expected the custom field of {path} to be {custom_of(manifest)}, found"
            f" {checks.custom_of(target)}",
        )
    return Stated(path, data, manifest)


def _check_retired(parts: Parts, request: Request, change: Change) -> None:
    before, after = _targets(change, request.publisher)
    with parts.database.reading() as session:
        rows = session.exec(
            select(Variant).where(
                col(Variant.model) == request.model, col(Variant.release) == request.release
            )
        ).all()
    leaving = {path_of(decode(row.manifest)) for row in rows}
    left = {path: target for path, target in before.items() if path not in leaving}
    if not leaving <= before.keys():
        raise _refused("owner", f"{request.name} is not {request.publisher}'s")
    if after != left:
        paths = sorted({*before, *after})
        wrong = [path for path in paths if after.get(path) != left.get(path)]
        raise _refused(
            "kept",
            f"expected the targets of {request.name} to leave and all others to stay, found"
            f" {wrong[0]} otherwise",
        )


def _targets(
    change: Change, publisher: str
) -> tuple[Mapping[str, TargetFile], Mapping[str, TargetFile]]:
    """Return a publisher's targets before and after the change."""
    role = publisher_role(publisher)
    earlier = change.earlier(role)
    return earlier.targets if earlier else {}, change.publishers[role].signed.targets


def _read(parts: Parts, what: str, sha256: str, limit: int) -> bytes:
    with parts.database.reading() as session:
        size = Shelf(session, parts.blobs).size(sha256)
    if size is None:
        raise _refused(what, f"the {what} {sha256} was not uploaded")
    if size > limit:
        raise _refused(what, f"expected a {what} of at most {limit} bytes, found {size}")
    data = parts.blobs.find(sha256).read_bytes()
    if canonical.sha256_hex(data) != sha256:
        raise _refused(what, f"the {what} {sha256} was damaged here: upload it again")
    return data


def _run(named: dict[str, Check], submission: Submission, shelf: Shelf) -> None:
    for name, check in named.items():
        for fault in check(submission, shelf):
            raise _refused(name, fault)


def _publish_metadata(session: Session, parts: Parts, request: Request, change: Change) -> None:
    upload = Upload(IMAGE, change.added, request.actor, request.now)
    try:
        repository.publish(session, parts.signer, parts.blobs, upload)
    except MetadataRefusedError as error:
        raise _refused(str(error.details["check"]), error.sentence) from error


def _keep(session: Session, submission: Submission, request: Request) -> None:
    counter = submission.variants[0].manifest.release_counter
    session.add(
        Release(
            model=request.model,
            release=request.release,
            counter=counter,
            created_at=request.now,
            pushed_by=request.actor,
        )
    )
    variants = {one.manifest.variant: one.digest for one in submission.variants}
    session.add_all(_row(variant) for variant in submission.variants)
    log.append(
        session,
        Tag.RELEASE_PUBLISHED,
        at=request.now,
        actor=request.actor,
        subject=f"release/{request.name}",
        after=changes.digest({"counter": counter, "variants": variants}),
        detail={
            "counter": counter,
            "variants": variants,
            "publisher": request.publisher,
            **({"unproven": request.unproven} if request.unproven else {}),
        },
    )


def _row(variant: Stated) -> Variant:
    return Variant(
        digest=variant.digest,
        model=variant.manifest.model,
        release=variant.manifest.release,
        variant=variant.manifest.variant,
        manifest=variant.payload,
        publisher=variant.manifest.publisher,
    )


def _write_down(parts: Parts, request: Request, refusal: RefusedError) -> None:
    with parts.database.transaction() as session:
        log.append(
            session,
            Tag.RELEASE_REFUSED,
            at=request.now,
            actor=request.actor,
            subject=f"release/{request.name}",
            outcome="denied",
            reason=refusal.code,
            detail={"message": refusal.message, **refusal.details},
        )


def _refused(check: str, message: str) -> RefusedError:
    return RefusedError("release_refused", f"check {check}: {message}", {"check": check})
