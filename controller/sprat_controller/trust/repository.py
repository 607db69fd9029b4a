"""The published metadata of both repositories, as rows; and the one way to publish more of it.

What people signed is checked by name, snapshot and timestamp come from the signer, and then the
real client looks at the result: from the first root with an empty cache, and with what is
published now in its cache. Only what it takes is kept, in the caller's transaction. Blocking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy

# The names below are the library's documented API; it re-exports them without saying so.
# pyright: reportPrivateImportUsage=false
from sprat_proto import canonical
from sprat_proto.approval import PolicyError, decode_policy
from sprat_proto.assignment import SCHEMA, Assignment, Policy
from sprat_proto.audit_events import Tag
from sprat_proto.trust import (
    DIRECTOR,
    IMAGE,
    POLICY_PATH,
    Repository,
    publisher_of_role,
    publisher_paths,
)
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select
from tuf.api.metadata import Timestamp

from sprat_controller.audit import changes, log
from sprat_controller.errors import NotFoundError, RefusedError, UnavailableError
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.signer.port import Signer, SignerError
from sprat_controller.store.tables import Publisher, TrustMetadata
from sprat_controller.trust import checks
from sprat_controller.trust.checks import Change
from sprat_controller.trust.dry_run import dry_run
from sprat_controller.trust.file_names import FileName, parse_name
from sprat_controller.trust.folder import TIMESTAMP, Metadata
from sprat_controller.trust.words import MetadataError, read

_ROLE: Final = "timestamp"
_NOBODY: Final = "trust-dry-run"  # a device that is none
_ONLINE: Final = ("snapshot", _ROLE)


@dataclass(frozen=True)
class Upload:
    """Metadata that somebody signed and wants to be published, by file name."""

    repository: Repository
    files: Mapping[str, bytes]
    actor: str
    now: datetime


class MetadataRefusedError(RefusedError):
    """A named check, or the client itself, refused it."""

    def __init__(self, check: str, sentence: str) -> None:
        super().__init__("metadata_refused", f"check {check}: {sentence}", {"check": check})
        self.sentence = sentence


def current(session: Session, repository: Repository) -> Metadata:
    """Return what a device may still need: all roots, and the newest of every other role."""
    other = aliased(TrustMetadata)
    newest = (
        sqlalchemy.select(func.max(col(other.version)))
        .where(col(other.repository) == repository, col(other.role) == col(TrustMetadata.role))
        .scalar_subquery()
    )
    statement = select(TrustMetadata).where(
        col(TrustMetadata.repository) == repository,
        (col(TrustMetadata.role) == "root") | (col(TrustMetadata.version) == newest),
    )
    return Metadata(repository, {_name(row): row.data for row in session.exec(statement)})


def names(session: Session, repository: Repository) -> list[tuple[str, int]]:
    """Return the name and size of every file that is published."""
    statement = sqlalchemy.select(
        col(TrustMetadata.role), col(TrustMetadata.version), func.length(TrustMetadata.data)
    ).where(col(TrustMetadata.repository) == repository)
    rows = session.connection().execute(statement.order_by(*statement.selected_columns[:2]))
    return [
        (TIMESTAMP if role == _ROLE else str(FileName(version, role)), size)
        for role, version, size in rows
    ]


def file(session: Session, repository: Repository, name: str) -> bytes:
    """Return one published file.

    Raises:
        NotFoundError: `metadata_not_found`.
    """
    statement = select(TrustMetadata.data).where(TrustMetadata.repository == repository)
    parsed = parse_name(name)
    if name == TIMESTAMP:
        statement = statement.where(TrustMetadata.role == _ROLE)
    elif parsed is not None and parsed.role != _ROLE:
        statement = statement.where(
            TrustMetadata.role == parsed.role, TrustMetadata.version == parsed.version
        )
    else:
        raise _not_found(repository, name)
    data = session.exec(statement).first()
    if data is None:
        raise _not_found(repository, name)
    return data


def publish(session: Session, signer: Signer, blobs: BlobStore, upload: Upload) -> Change:
    """Check, have signed, show to the client, and keep; return what changed.

    Raises:
        MetadataRefusedError: By a named check or by the client; nothing is kept.
        UnavailableError: The signer does not sign now.
    """
    change = Change(current(session, upload.repository), upload.files)
    found = checks.fault(change, upload.now)
    if found is None and POLICY_PATH in _new_policies(change):
        found = _fault_of_policy(change, blobs)
    if found is not None:
        raise MetadataRefusedError(*found)
    online: Mapping[str, bytes] = {}
    if upload.repository == IMAGE:
        online = _sign(signer, change.after)
        show_to_client(change, online, upload.now)
    else:
        _show_a_plan(change, signer, upload.now)
    for name, data in upload.files.items():
        _keep(session, upload.repository, name, data)
    keep_online(session, online)
    if upload.repository == IMAGE and any(name.role == "targets" for name in change.names):
        _keep_publishers(session, change, upload.now)
    log.append(
        session,
        Tag.METADATA_PUBLISHED,
        at=upload.now,
        actor=upload.actor,
        subject=f"trust/{upload.repository}",
        before=_digest(change.before),
        after=_digest(change.after),
        detail={"files": sorted(upload.files), "online": sorted(online)},
    )
    return change


def _digest(metadata: Metadata) -> str:
    """Return the digest of what people signed, as files and their digests."""
    files = {name: data for name, data in metadata.files.items() if not _is_online(name)}
    return changes.digest({name: canonical.sha256_hex(data) for name, data in files.items()})


def show_to_client(change: Change, online: Mapping[str, bytes], now: datetime) -> None:
    """Have the real client take the change, as a new device and as one that is up to date.

    Raises:
        MetadataRefusedError: It does not take it.
    """
    files = {name: data for name, data in change.after.files.items() if not _is_online(name)}
    before = {name: data for name, data in change.before.files.items() if _is_online(name)}
    snapshots = {name: data for name, data in {**before, **online}.items() if name != TIMESTAMP}
    files |= snapshots
    files[TIMESTAMP] = online.get(TIMESTAMP, before.get(TIMESTAMP, b""))
    first = change.after.files[str(FileName(1, "root"))]
    paths = _paths(change)
    caches: list[dict[str, bytes]] = [{}]
    if change.before.versions("snapshot"):
        caches.append(_cache(change.before))
    try:
        for cached in caches:
            dry_run(files, first, now=now, cached=cached, paths=paths)
    except MetadataError as error:
        raise MetadataRefusedError("dry run", str(error)) from error


def sign_online(signer: Signer, metadata: Metadata) -> Mapping[str, bytes]:
    """Return snapshot and timestamp over the newest roles, by file name.

    Raises:
        SignerError: It does not sign.
    """
    roles = {
        role: metadata.newest(role)[0]
        for role in metadata.roles()
        if role == "targets" or publisher_of_role(role) is not None
    }
    signed = signer.sign_timestamp(roles)
    name = str(FileName(signed.snapshot_version, "snapshot"))
    return {TIMESTAMP: signed.timestamp, name: signed.snapshot}


def keep_online(session: Session, online: Mapping[str, bytes]) -> None:
    """Keep snapshot and timestamp; of timestamps only the newest."""
    if TIMESTAMP in online:
        session.connection().execute(
            sqlalchemy.delete(TrustMetadata).where(
                col(TrustMetadata.repository) == IMAGE, col(TrustMetadata.role) == _ROLE
            )
        )
    for name, data in online.items():
        _keep(session, IMAGE, name, data)


def found(
    session: Session, signer: Signer, files: Mapping[Repository, Mapping[str, bytes]], now: datetime
) -> None:
    """Keep the first metadata of both repositories (`trust.founding`), with a first timestamp.

    Raises:
        MetadataRefusedError: A named check refuses it.
        UnavailableError: The signer does not sign.
    """
    for repository in (IMAGE, DIRECTOR):
        change = Change(Metadata(repository, {}), files[repository])
        fault = checks.fault(change, now)
        if fault is not None:
            raise MetadataRefusedError(*fault)
        online: Mapping[str, bytes] = {}
        if repository == IMAGE:
            online = _sign(signer, change.after)
            show_to_client(change, online, now)
        else:
            _show_a_plan(change, signer, now)
        for name, data in change.added.items():
            _keep(session, repository, name, data)
        keep_online(session, online)
        log.append(
            session,
            Tag.METADATA_PUBLISHED,
            at=now,
            actor="controller",
            subject=f"trust/{repository}",
            before=_digest(change.before),
            after=_digest(change.after),
            detail={"files": sorted(change.added), "online": sorted(online)},
        )


def _show_a_plan(change: Change, signer: Signer, now: datetime) -> None:
    """Have the client take a plan for nobody: is the root's online key the one that signs?

    Raises:
        MetadataRefusedError: It does not take it.
        UnavailableError: The signer does not sign.
    """
    version = int(now.timestamp())
    nobody = Assignment(SCHEMA, _NOBODY, version, now.isoformat(), [], Policy())
    try:
        plan = signer.issue_plan(nobody, [])
    except SignerError as error:
        raise UnavailableError(error.code, f"no plan was signed: {error.message}") from error
    files = {
        **change.after.files,
        "targets.json": plan.targets,
        "snapshot.json": plan.snapshot,
        TIMESTAMP: plan.timestamp,
    }
    try:
        dry_run(files, change.after.files[str(FileName(1, "root"))], now=now)
    except MetadataError as error:
        raise MetadataRefusedError("dry run", str(error)) from error


def _sign(signer: Signer, metadata: Metadata) -> Mapping[str, bytes]:
    try:
        return sign_online(signer, metadata)
    except SignerError as error:
        raise UnavailableError(
            error.code, f"snapshot and timestamp were not signed: {error.message}"
        ) from error


def _new_policies(change: Change) -> set[str]:
    earlier = change.earlier("targets")
    before = earlier.targets if earlier else {}
    after = change.top.signed.targets if change.before.repository == IMAGE else {}
    return {path for path, target in after.items() if before.get(path) != target}


def _fault_of_policy(change: Change, blobs: BlobStore) -> tuple[str, str] | None:
    """A policy that nobody could read would stop every rollout that asks for approval."""
    target = change.top.signed.targets[POLICY_PATH]
    sha256 = target.hashes.get("sha256", "")
    try:
        decode_policy(blobs.find(sha256).read_bytes())
    except (NotFoundError, PolicyError) as error:
        return "policy", f"expected {POLICY_PATH} as the blob {sha256}: {error}"
    return None


def _keep_publishers(session: Session, change: Change, now: datetime) -> None:
    for role, delegated in checks.delegations(change.top.signed).items():
        name = publisher_of_role(role) or role
        row = session.get(Publisher, name)
        if row is None:
            session.add(Publisher(name=name, key_ids=list(delegated.keyids), created_at=now))
        else:
            row.key_ids = list(delegated.keyids)
            session.add(row)


def _paths(change: Change) -> list[str]:
    """Return a path of each publisher that the change touches, so that its delegation is walked."""
    paths: list[str] = []
    touched = {name.role for name in change.names}
    roles = change.after.roles() if touched & {"root", "targets"} else touched
    for role in roles:
        publisher = publisher_of_role(role)
        if publisher is not None:
            paths.append(publisher_paths(publisher).replace("*", "-"))
            if role in change.publishers:
                paths += list(change.publishers[role].signed.targets)[:1]
    return paths


def _cache(metadata: Metadata) -> dict[str, bytes]:
    """Return what a device that is up to date has."""
    cached = {TIMESTAMP: metadata.files[TIMESTAMP]}
    for role in metadata.roles():
        if role != "root":
            cached[f"{role}.json"] = metadata.newest(role)[1]
    return cached


def _keep(session: Session, repository: Repository, name: str, data: bytes) -> None:
    if name == TIMESTAMP:
        role, version = _ROLE, read(data, Timestamp, TIMESTAMP).signed.version
    else:
        parsed = parse_name(name)
        if parsed is None:
            raise ValueError(f"expected a metadata file, found {name!r}")
        role, version = parsed.role, parsed.version
    session.add(TrustMetadata(repository=repository, role=role, version=version, data=data))
    session.flush()


def _name(row: TrustMetadata) -> str:
    return TIMESTAMP if row.role == _ROLE else str(FileName(row.version, row.role))


def _is_online(name: str) -> bool:
    parsed = parse_name(name)
    return name == TIMESTAMP or (parsed is not None and parsed.role in _ONLINE)


def _not_found(repository: Repository, name: str) -> NotFoundError:
    return NotFoundError(
        "metadata_not_found", f"the {repository} repository has no metadata {name[:120]!r}"
    )
