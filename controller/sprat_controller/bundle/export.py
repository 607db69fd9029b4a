"""What goes into a bundle: plans signed at this moment, metadata, and which blobs belong to it.

The controller signs nothing here but the ordinary plans of named devices. What a group may do
stands in a statement that was signed offline; the controller only carries it, and needs not be
asked whether it may.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy
from sprat_proto import bundle, canonical, manifest, trust
from sprat_proto.audit_events import Tag
from sprat_proto.bundle import Header, OfflineStatement
from sprat_proto.canonical import NotCanonicalError
from sprat_proto.trust import Repository
from sqlmodel import Session, col

from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.audit import changes, log
from sprat_controller.clock import Clock
from sprat_controller.errors import ConflictError, DeniedError, RequestError
from sprat_controller.fleet import inventory
from sprat_controller.fleet.filters.fields import FIELDS
from sprat_controller.fleet.filters.tree import Matches, Pattern
from sprat_controller.rollout import assign
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import Database
from sprat_controller.store.tables import DesiredModel, TrustMetadata, Variant

MAX_DEVICES: Final = 1000  # in one bundle


@dataclass(frozen=True)
class Contents:
    """Everything in a bundle.

    Attributes:
        small: Name and bytes of each member up to the blobs, in their order.
        blobs: SHA-256 and size of each blob, in their order: manifests first.
    """

    small: tuple[tuple[str, bytes], ...]
    blobs: tuple[tuple[str, int], ...]


class Exporter:
    """Collects bundles. All methods block."""

    def __init__(self, database: Database, signer: Signer, clock: Clock) -> None:
        self._database = database
        self._signer = signer
        self._clock = clock

    def for_devices(
        self, device_ids: Sequence[str], scope: Scope = EVERYTHING, *, actor: str
    ) -> Contents:
        """Return what named devices need: their plans, signed anew, and all that these name.

        Outside of the scope no device is there.

        Raises:
            RequestError: No device, or too many.
            NotFoundError: No such device.
            ConflictError: A device has no plan, or may have none; or nothing was published yet.
            SignerError: A plan was not signed.
        """
        names = sorted(set(device_ids))
        if not 1 <= len(names) <= MAX_DEVICES:
            raise RequestError(
                "wrong_number_of_devices",
                f"expected 1 to {MAX_DEVICES} devices, found {len(names)}",
            )
        now = self._clock()
        plans: list[tuple[str, bytes]] = []
        with self._database.transaction() as session:
            for name in names:
                plans += self._plan(session, name, now, scope)
            digests = session.connection().execute(_DESIRED, {"devices": names}).scalars().all()
            header = Header(schema=bundle.SCHEMA, made=_text(now), devices=names)
            contents = _contents(session, header, plans, digests)
            _note(session, [f"device/{name}" for name in names], contents, actor, now)
            return contents

    def for_group(self, envelope: str, scope: Scope = EVERYTHING, *, actor: str) -> Contents:
        """Return what a group needs to follow a statement that was signed offline.

        The whole group must be in the scope.

        Raises:
            RequestError: It is no envelope over a statement.
            ConflictError: It names what is not published here.
            DeniedError: `outside_scope`.
        """
        statement = _read(envelope)
        whole = Matches(FIELDS["group"], (Pattern((statement.group,)),))
        if not scope.contains(Scope(whole)):
            raise DeniedError(
                "outside_scope",
                f"expected a group that is all within {scope.text}, found {statement.group}",
            )
        now = self._clock()
        header = Header(schema=bundle.SCHEMA, made=_text(now), devices=[], group=statement.group)
        said = [(bundle.OFFLINE, envelope.encode())]
        with self._database.transaction() as session:
            contents = _contents(session, header, said, [one.digest for one in statement.models])
            _note(session, [f"group/{statement.group}"], contents, actor, now)
            return contents

    def _plan(
        self, session: Session, device_id: str, now: datetime, scope: Scope
    ) -> list[tuple[str, bytes]]:
        device = inventory.find(session, device_id, scope)
        if device.revoked_at is not None:
            raise inventory.unknown(device_id)
        message = assign.renew(session, self._signer, device_id, now)
        if message is None:
            raise ConflictError(
                "no_plan",
                f"expected a plan of the device {device_id}, found none, or it is in quarantine:"
                " roll something out to it first, or release it",
            )
        plan = message.assignment
        return [
            (bundle.plan_name(device_id, "targets"), plan.targets),
            (bundle.plan_name(device_id, "snapshot"), plan.snapshot),
            (bundle.plan_name(device_id, "timestamp"), plan.timestamp),
        ]


def _note(
    session: Session, subjects: Sequence[str], contents: Contents, actor: str, now: datetime
) -> None:
    """Write down for whom a bundle was made, with the digest of all that is in it."""
    small = {name: canonical.sha256_hex(data) for name, data in contents.small}
    holds = changes.digest({"files": small, "blobs": sorted(name for name, _ in contents.blobs)})
    for subject in subjects:
        log.append(session, Tag.BUNDLE_EXPORTED, at=now, actor=actor, subject=subject, after=holds)


_DESIRED: Final = (
    sqlalchemy.select(col(DesiredModel.digest))
    .where(col(DesiredModel.device_id).in_(sqlalchemy.bindparam("devices", expanding=True)))
    .distinct()
    .order_by(col(DesiredModel.digest))
)


def _contents(
    session: Session,
    header: Header,
    said: Sequence[tuple[str, bytes]],
    digests: Iterable[str],
) -> Contents:
    manifests = [_manifest(session, digest) for digest in dict.fromkeys(digests)]
    read = [manifest.decode(data) for data in manifests]
    image, policy = _image(session, {one.publisher for one in read})
    # A device reads what it needs to judge before what takes long.
    blobs = [*policy, *((canonical.sha256_hex(data), len(data)) for data in manifests)]
    blobs += [blob for one in read for blob in one.blobs()]
    small = [(bundle.HEADER, canonical.encode(header)), *_director_roots(session), *said, *image]
    # The members of one kind are together, in the order of the format.
    small.sort(key=lambda member: (bundle.rank(member[0]) or (-1, 0))[0])
    return Contents(tuple(small), tuple(dict(blobs).items()))


def _director_roots(session: Session) -> list[tuple[str, bytes]]:
    roots = _versions(session, trust.DIRECTOR, "root")
    return [(bundle.director_root_name(version), data) for version, data in roots]


def _image(
    session: Session, publishers: Iterable[str]
) -> tuple[list[tuple[str, bytes]], list[tuple[str, int]]]:
    """Return the image repository's metadata for these publishers, and the policy's blob."""
    roots = _versions(session, trust.IMAGE, "root")
    members = [(bundle.image_name(f"{version}.root.json"), data) for version, data in roots]
    _, timestamp = _newest(session, "timestamp")
    members.append((bundle.image_name("timestamp.json"), timestamp))
    roles = ["snapshot", "targets", *(trust.publisher_role(one) for one in sorted(publishers))]
    for role in roles:
        version, data = _newest(session, role)
        members.append((bundle.image_name(f"{version}.{role}.json"), data))
    _, targets = _newest(session, "targets")
    policy: Any = json.loads(targets)["signed"]["targets"].get(trust.POLICY_PATH)
    blobs = [(policy["hashes"]["sha256"], policy["length"])] if policy else []
    return members, blobs


def _newest(session: Session, role: str) -> tuple[int, bytes]:
    versions = _versions(session, trust.IMAGE, role)
    if not versions:
        raise ConflictError(
            "nothing_published",
            f"expected metadata of {role} in the image repository, found none: publish first",
        )
    return versions[-1]


def _versions(session: Session, repository: Repository, role: str) -> list[tuple[int, bytes]]:
    found = session.connection().execute(
        sqlalchemy.select(col(TrustMetadata.version), col(TrustMetadata.data))
        .where(col(TrustMetadata.repository) == repository, col(TrustMetadata.role) == role)
        .order_by(col(TrustMetadata.version))
    )
    return [(version, data) for version, data in found]


def _manifest(session: Session, digest: str) -> bytes:
    chosen = sqlalchemy.select(col(Variant.manifest)).where(col(Variant.digest) == digest)
    data = session.connection().execute(chosen).scalar()
    if data is None:
        raise ConflictError("variant_not_found", f"there is no variant with the digest {digest}")
    return data


def _read(envelope: str) -> OfflineStatement:
    """Return the statement in an envelope; devices check by whom it is signed."""
    try:
        payload = base64.b64decode(json.loads(envelope)["payload"], validate=True)
        return bundle.decode_statement(payload)
    except (ValueError, KeyError, TypeError, binascii.Error, NotCanonicalError) as error:
        raise RequestError(
            "not_a_statement",
            f"expected a signed offline statement, found something else ({error}): make one with"
            " `sprat bundle state`",
        ) from error


def _text(now: datetime) -> str:
    return now.isoformat(timespec="seconds")
