"""How a device gets its next certificate: by a signature of its identity key, also when late.

A renewal names the certificate that it follows. Of a device there is one, so its renewals are a
chain; one that follows an older certificate comes from a copy of the device (or the device itself
comes after a copy: the chain cannot tell which, a person can). The device goes into quarantine.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias, assert_never

import sqlalchemy as sql
from sprat_proto.audit_events import Tag
from sprat_proto.identity import renewal_statement
from sqlmodel import Session, col

from sprat_controller.audit import log
from sprat_controller.audit.denials import Denials
from sprat_controller.errors import DeniedError, RequestError
from sprat_controller.fleet import certificates
from sprat_controller.fleet.certificates import Given
from sprat_controller.fleet.keys import Csr, read_csr, read_identity_key
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Device, DeviceCertificate

LATE: Final = "late"
COPIED: Final = "copied"
_MAX_SIGNED: Final = 80  # characters of a stranger's words that are kept
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a device sends to be certified anew."""

    device_id: str
    serial: str  # of the certificate that it has
    csr_pem: str
    signature: bytes  # of the identity key, over `renewal_statement`


@dataclass(frozen=True)
class Standing:
    """What the rows say of a device's certificates."""

    is_revoked: bool
    newest_serial: str
    newest_follows: str | None
    newest_key_sha256: str
    newest_ends_at: datetime
    grace: timedelta
    may_renew_from_any: bool
    is_known_key: bool  # the key of the request was certified for this device before


@dataclass(frozen=True)
class Issue:
    """Certify the key."""

    quarantine: str | None = None


@dataclass(frozen=True)
class Repeat:
    """The answer was lost: give the newest certificate again."""


@dataclass(frozen=True)
class Refuse:
    """Certify nothing."""

    code: str
    message: str
    quarantine: str | None = None


Decision: TypeAlias = Issue | Repeat | Refuse


def decide(standing: Standing, *, serial: str, key_sha256: str, now: datetime) -> Decision:
    """Return what a renewal, signed by the device's identity key, leads to. Pure.

    Args:
        standing: What is known of the device.
        serial: Of the certificate that the request follows.
        key_sha256: Of the key to certify.
        now: The caller's clock.
    """
    if standing.is_revoked:
        return Refuse("device_removed", "this device was removed: it gets no certificate")
    if key_sha256 == standing.newest_key_sha256 and serial == standing.newest_follows:
        return Repeat()
    if standing.is_known_key:
        # An earlier request again, perhaps replayed by a stranger: no reason to suspect a copy.
        return Refuse("key_used", "expected a new key, found one that was certified before")
    if serial != standing.newest_serial and not standing.may_renew_from_any:
        return Refuse(
            "certificate_superseded",
            f"expected the newest certificate {standing.newest_serial}, found"
            f" {serial[:_MAX_SIGNED]!r}: there may be a copy of this device; it is in quarantine"
            " until a person decides",
            quarantine=COPIED,
        )
    is_late = now - standing.newest_ends_at > standing.grace
    return Issue(quarantine=LATE if is_late else None)


def renew(
    database: Database, signer: Signer, denials: Denials, request: Request, now: datetime
) -> Given:
    """Certify a device's next key; a refusal is written down.

    Raises:
        RequestError: `bad_csr` or `weak_key`.
        DeniedError: `renewal_refused` (no such device, or another identity key),
            `device_removed`, `key_used`, `certificate_superseded`, `signer_refused`.
        UnavailableError: The signer is away; nothing was changed.
    """
    try:
        csr = read_csr(request.csr_pem)
        _check_signature(database, request)
        with database.transaction() as session:
            outcome = _carry_out(session, signer, request, csr, now)
        if isinstance(outcome, Refuse):
            raise DeniedError(outcome.code, outcome.message)
    except RequestError as refusal:
        is_copy = refusal.code == "certificate_superseded"
        if is_copy:
            _log.warning("device %s may have been copied: %s", request.device_id, refusal.message)
        denials.record(
            Tag.DEVICE_COPY_SUSPECTED if is_copy else Tag.DEVICE_RENEWAL_REFUSED,
            at=now,
            actor="stranger",
            subject=f"device/{request.device_id[:_MAX_SIGNED]}",
            detail={"code": refusal.code, "serial": request.serial[:_MAX_SIGNED]},
        )
        raise
    return outcome


def quarantine(session: Session, device: Device, reason: str, now: datetime) -> None:
    """Give the device no plan any more until a person releases it; it may speak and be heard."""
    if device.quarantined_at is not None and device.quarantine_reason in (reason, COPIED):
        return
    before = device.quarantine_reason or "none"
    device.quarantined_at, device.quarantine_reason = now, reason
    log.append(
        session,
        Tag.DEVICE_QUARANTINED,
        at=now,
        actor="controller",
        subject=f"device/{device.id}",
        reason=reason,
        before=before,
        after=reason,
        detail={"reason": reason},
    )


def _check_signature(database: Database, request: Request) -> None:
    with database.reading() as session:
        statement = sql.select(col(Device.identity_key)).where(col(Device.id) == request.device_id)
        identity_key = session.connection().execute(statement).scalar()
    statement_bytes = renewal_statement(
        device_id=request.device_id, serial=request.serial, csr_pem=request.csr_pem
    )
    if not identity_key or not read_identity_key(identity_key).has_signed(
        statement_bytes, request.signature
    ):
        raise DeniedError(
            "renewal_refused",
            "expected the signature of an enrolled device's identity key, found another: enrol"
            " this device, under a new name if it was removed",
        )


def _carry_out(
    session: Session, signer: Signer, request: Request, csr: Csr, now: datetime
) -> Given | Refuse:
    device = session.get(Device, request.device_id, with_for_update=True)
    if device is None:
        raise RuntimeError(f"the row of {request.device_id} is gone; rows of devices stay")
    decision = decide(
        _standing(session, device, csr), serial=request.serial, key_sha256=csr.key_sha256, now=now
    )
    match decision:
        case Issue(reason):
            _issue(session, signer, device, csr, follows=request.serial, now=now)
            if reason is not None:
                quarantine(session, device, reason, now)
        case Refuse():
            if decision.quarantine is not None:
                quarantine(session, device, decision.quarantine, now)
            return decision
        case Repeat():
            pass
        case _:
            assert_never(decision)
    return Given(device.id, device.group, device.chain_pem)


def _standing(session: Session, device: Device, csr: Csr) -> Standing:
    newest = session.get(DeviceCertificate, (device.id, device.serial))
    if newest is None:
        raise RuntimeError(f"the newest certificate of {device.id} has no row")
    same_key = sql.select(col(DeviceCertificate.serial)).where(
        col(DeviceCertificate.device_id) == device.id,
        col(DeviceCertificate.key_sha256) == csr.key_sha256,
    )
    return Standing(
        is_revoked=device.revoked_at is not None,
        newest_serial=newest.serial,
        newest_follows=newest.follows,
        newest_key_sha256=newest.key_sha256,
        newest_ends_at=newest.ends_at,
        grace=timedelta(days=device.grace_days),
        may_renew_from_any=device.may_renew_from_any,
        is_known_key=session.connection().execute(same_key).first() is not None,
    )


def _issue(
    session: Session, signer: Signer, device: Device, csr: Csr, *, follows: str, now: datetime
) -> None:
    before = device.serial
    issued = certificates.issue(signer, device.id, csr)
    certificates.keep(session, device, issued, key_sha256=csr.key_sha256, follows=follows, now=now)
    device.may_renew_from_any = False
    log.append(
        session,
        Tag.DEVICE_RENEWED,
        at=now,
        actor=f"device:{device.id}",
        subject=f"device/{device.id}",
        before=before,
        after=issued.serial,
        detail={"serial": issued.serial, "key_sha256": csr.key_sha256},
    )
