"""How a device becomes one of ours: a one-time token, a key of its own, a certificate.

The name comes from the token. All of it is one transaction: a device that lost the answer asks
again with the same key and gets the same certificate; another key with the same token is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from sprat_proto import claim, topics
from sprat_proto.states import DeviceState
from sqlmodel import Session, select

from sprat_controller.audit import log
from sprat_controller.audit.denials import Denials
from sprat_controller.audit.tags import Tag
from sprat_controller.errors import ConflictError, DeniedError, NotFoundError, RequestError
from sprat_controller.fleet.ca import CONTROLLER_NAME, key_sha256_of_csr
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Device, DeviceLabel, EnrolmentToken

_SUBJECT_UNKNOWN: Final = "enrolment/unknown"


class Authority(Protocol):
    """What signs a device's certificate: `fleet.ca.CertificateAuthority`."""

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the authority's certificate."""
        ...

    def sign_device(self, csr_pem: bytes, device_id: str, now: datetime) -> bytes:
        """Return a certificate in PEM."""
        ...


@dataclass(frozen=True)
class Enrolled:
    """What a device gets."""

    device_id: str
    certificate_pem: str


def create_token(
    session: Session,
    *,
    device_id: str,
    labels: Mapping[str, str],
    lifetime: timedelta,
    actor: str,
    now: datetime,
    ca_fingerprint: str,
    new_id: Callable[[], str],
    new_secret: Callable[[], str],
) -> tuple[EnrolmentToken, claim.Claim]:
    """Add a token for one device and return its row and, for this once, the claim.

    Args:
        session: An open `Database.transaction()`.
        device_id: The name that the device will have.
        labels: What the device is labelled with when it enrols.
        lifetime: How long the token is good for.
        actor: Who makes it.
        now: The caller's clock.
        ca_fingerprint: By which the device knows this controller.
        new_id: Makes the id of the row.
        new_secret: Makes 256 random bits in base64url without padding, 43 characters.

    Raises:
        RequestError: `bad_device_id`.
        ConflictError: `device_exists`: its logs belong to its first life.
    """
    if not topics.is_device_id(device_id) or device_id == CONTROLLER_NAME:
        raise RequestError(
            "bad_device_id",
            "expected a device id of 1-64 characters a-z, 0-9 and inner hyphens that is not"
            f" {CONTROLLER_NAME!r}, found {device_id[:80]!r}",
        )
    _refuse_existing(session, device_id)
    made = claim.Claim(new_secret(), ca_fingerprint)
    row = EnrolmentToken(
        id=new_id(),
        device_id=device_id,
        secret_sha256=made.secret_sha256,
        labels=dict(labels),
        created_at=now,
        created_by=actor,
        expires_at=now + lifetime,
    )
    session.add(row)
    log.append(
        session,
        Tag.ENROLMENT_CREATED,
        at=now,
        actor=actor,
        subject=f"enrolment/{row.id}",
        detail={"device": device_id, "labels": dict(labels)},
    )
    return row, made


def revoke_token(session: Session, token_id: str, *, actor: str, now: datetime) -> None:
    """Make a token worthless; a second time changes nothing.

    Raises:
        NotFoundError: No such token.
        ConflictError: `token_used`: the device is to be removed instead.
    """
    row = session.get(EnrolmentToken, token_id)
    if row is None:
        raise NotFoundError(
            "enrolment_token_not_found", f"there is no enrolment token with the id {token_id!r}"
        )
    if row.used_at is not None:
        raise ConflictError(
            "token_used",
            f"the device {row.device_id} used this token already: remove the device instead",
        )
    if row.revoked_at is None:
        row.revoked_at = now
        log.append(
            session,
            Tag.ENROLMENT_REVOKED,
            at=now,
            actor=actor,
            subject=f"enrolment/{row.id}",
            detail={"device": row.device_id},
        )


def enrol(
    database: Database,
    authority: Authority,
    denials: Denials,
    *,
    token: str,
    csr_pem: bytes,
    now: datetime,
) -> Enrolled:
    """Redeem a token; a refusal changes nothing and is written down.

    Raises:
        RequestError: `bad_enrolment_token`, `bad_csr` or `weak_key`.
        DeniedError: `token_unknown` (or revoked: a stranger learns no difference), `token_expired`.
        ConflictError: `token_used` with another key, `device_exists`.
    """
    subject = _SUBJECT_UNKNOWN
    try:
        claimed = _parse(token)
        key = key_sha256_of_csr(csr_pem)
        with database.transaction() as session:
            row = _find(session, claimed)
            subject = f"enrolment/{row.id}"
            return _redeem(session, authority, row, csr_pem=csr_pem, key_sha256=key, now=now)
    except RequestError as refusal:
        denials.record(
            Tag.DEVICE_ENROLMENT_REFUSED,
            at=now,
            actor="stranger",
            subject=subject,
            detail={"code": refusal.code},
        )
        raise


def _parse(token: str) -> claim.Claim:
    try:
        return claim.parse(token)
    except claim.ClaimError as error:
        raise RequestError("bad_enrolment_token", str(error)) from error


def _find(session: Session, claimed: claim.Claim) -> EnrolmentToken:
    found = select(EnrolmentToken).where(EnrolmentToken.secret_sha256 == claimed.secret_sha256)
    row = session.exec(found).first()
    if row is None or row.revoked_at is not None:
        raise DeniedError(
            "token_unknown",
            "this controller does not know this enrolment token (any more): create a new one with"
            " `sprat enrolment create`",
        )
    return row


def _redeem(
    session: Session,
    authority: Authority,
    row: EnrolmentToken,
    *,
    csr_pem: bytes,
    key_sha256: str,
    now: datetime,
) -> Enrolled:
    if row.used_at is not None:
        return _again(row, key_sha256)
    if row.expires_at <= now:
        raise DeniedError(
            "token_expired",
            f"this enrolment token was good until {row.expires_at.isoformat(timespec='seconds')}:"
            " create a new one with `sprat enrolment create`",
        )
    _refuse_existing(session, row.device_id)
    certificate = authority.sign_device(csr_pem, row.device_id, now).decode()
    row.used_at, row.used_key_sha256, row.certificate_pem = now, key_sha256, certificate
    _register(session, row, key_sha256, now)
    return Enrolled(row.device_id, certificate)


def _again(row: EnrolmentToken, key_sha256: str) -> Enrolled:
    """Return what was given already, to the same key only."""
    if row.used_key_sha256 != key_sha256 or row.certificate_pem is None:
        raise ConflictError(
            "token_used",
            f"this enrolment token was used already, by another key for {row.device_id}: each"
            " device needs its own; if you did not do that, remove that device",
        )
    return Enrolled(row.device_id, row.certificate_pem)


def _refuse_existing(session: Session, device_id: str) -> None:
    existing = session.get(Device, device_id)
    if existing is not None:
        how = "was removed" if existing.revoked_at else "is enrolled already"
        raise ConflictError(
            "device_exists",
            f"a device named {device_id} {how}, and its audit log stays its own: choose another"
            " name",
        )


def _register(session: Session, row: EnrolmentToken, key_sha256: str, now: datetime) -> None:
    session.add(
        Device(
            id=row.device_id,
            state=DeviceState.REGISTERED.value,
            key_sha256=key_sha256,
            enrolled_at=now,
        )
    )
    session.flush()  # the labels refer to it
    for key, value in row.labels.items():
        session.add(DeviceLabel(device_id=row.device_id, key=key, value=value))
    log.append(
        session,
        Tag.DEVICE_ENROLLED,
        at=now,
        actor=f"device:{row.device_id}",
        subject=f"device/{row.device_id}",
        detail={"enrolment": row.id, "key_sha256": key_sha256},
    )
