"""How a device becomes one of ours: a claim token, two keys of its own, a certificate.

The name comes from the token. Its use, the device and the certificate are one transaction: a device
that lost the answer asks again with the same keys and gets the same certificate; other keys with a
token that is used up are refused, and that is an alarm. A token that expired, was revoked, was
never made, or is for a device that was removed, is refused in the same words after the same work.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sprat_proto import claim, topics
from sprat_proto.audit_events import Tag
from sprat_proto.audit_seal import KEY_BYTES
from sprat_proto.identity import enrolment_statement
from sprat_proto.states import DeviceState
from sprat_proto.trust import HARDWARE_IDS
from sqlmodel import Session, col, func, select

from sprat_controller.access import within
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.audit import log
from sprat_controller.audit.denials import Denials
from sprat_controller.errors import ConflictError, DeniedError, NotFoundError, RequestError
from sprat_controller.fleet import certificates, inventory
from sprat_controller.fleet.ca import CONTROLLER_NAME
from sprat_controller.fleet.certificates import Given
from sprat_controller.fleet.filters.fields import Facts
from sprat_controller.fleet.keys import (
    Csr,
    IdentityKey,
    read_audit_key,
    read_csr,
    read_identity_key,
)
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import Database
from sprat_controller.store.tables import (
    Device,
    DeviceLabel,
    EnrolmentRedemption,
    EnrolmentToken,
)

DEFAULT_GROUP: Final = "default"
DEFAULT_GRACE_DAYS: Final = 365
MAX_COUNT: Final = 10_000
_GROUP: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_SUBJECT_UNKNOWN: Final = "enrolment/unknown"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What a token is for.

    Attributes:
        device_id: The name of the one device; None for a batch.
        prefix: What the names of a batch begin with: `kiosk` names kiosk-1, kiosk-2, …
        count: How many devices may redeem it.
        labels: What each is labelled with.
        group: What each pins as its group, for ever.
        hardware_id: Devices of other hardware are refused; None: any.
        grace_days: How long after its certificate's end a device may renew by itself.
        lifetime: How long the token is good for.
    """

    device_id: str | None = None
    prefix: str | None = None
    count: int = 1
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    group: str = DEFAULT_GROUP
    hardware_id: str | None = None
    grace_days: int = DEFAULT_GRACE_DAYS
    lifetime: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Request:
    """What a device sends to be enrolled."""

    token: str
    csr_pem: str
    identity_key_pem: str
    audit_key_pem: str
    audit_seed: bytes
    signature: bytes  # of the identity key, over `enrolment_statement`
    hardware_id: str


@dataclass(frozen=True)
class _Checked:
    """A request whose keys are good and whose signature is the identity key's."""

    claimed: claim.Claim
    csr: Csr
    identity: IdentityKey
    audit_key_pem: str
    audit_seed: bytes
    hardware_id: str


@dataclass(frozen=True)
class _Found:
    """What is known under a token's secret; read in one statement, whatever there is."""

    token: EnrolmentToken | None
    redemption: EnrolmentRedemption | None  # by the same identity key
    device: Device | None  # that redeemed it, else that has the token's name


class _TakenError(ConflictError):
    """Somebody with other keys holds a token that was used up: theft, or a copied disk."""


def create_token(
    session: Session,
    wanted: Wanted,
    *,
    actor: str,
    now: datetime,
    ca_fingerprint: str,
    new_id: Callable[[], str],
    new_secret: Callable[[], str],
    scope: Scope = EVERYTHING,
) -> tuple[EnrolmentToken, claim.Claim]:
    """Add a token and return its row and, for this once, the claim.

    Args:
        session: An open `Database.transaction()`.
        wanted: What it is for.
        actor: Who makes it.
        now: The caller's clock.
        ca_fingerprint: By which the device knows this controller.
        new_id: Makes the id of the row.
        new_secret: Makes 256 random bits in base64url without padding, 43 characters.
        scope: Of who makes it; each device that it names is in it.

    Raises:
        RequestError: `bad_device_id`, `bad_batch`, `bad_group` or `bad_hardware`.
        DeniedError: `outside_scope`.
        ConflictError: `device_exists`: its logs belong to its first life.
    """
    _check(wanted)
    if not _is_within(wanted.device_id, wanted.labels, wanted.group, scope):
        raise DeniedError(
            "outside_scope",
            f"expected labels and a group by which all of its devices are within {scope.text},"
            " found others",
        )
    if wanted.device_id is not None:
        _refuse_existing(session.get(Device, wanted.device_id))
    made = claim.Claim(new_secret(), ca_fingerprint)
    row = EnrolmentToken(
        id=new_id(),
        device_id=wanted.device_id,
        prefix=wanted.prefix,
        secret_sha256=made.secret_sha256,
        count=wanted.count,
        labels=dict(wanted.labels),
        group=wanted.group,
        hardware_id=wanted.hardware_id,
        grace_days=wanted.grace_days,
        created_at=now,
        created_by=actor,
        expires_at=now + wanted.lifetime,
    )
    session.add(row)
    log.append(
        session,
        Tag.ENROLMENT_CREATED,
        at=now,
        actor=actor,
        subject=f"enrolment/{row.id}",
        after="valid",
        detail={
            "devices": name_of(row),
            "count": wanted.count,
            "group": wanted.group,
            "labels": dict(wanted.labels),
        },
    )
    return row, made


def name_of(row: EnrolmentToken) -> str:
    """Return the name of the token's device, or the pattern of its batch's names."""
    return row.device_id or f"{row.prefix}-*"


def tokens(session: Session, scope: Scope, *, after: str, limit: int) -> Sequence[EnrolmentToken]:
    """Return tokens for devices within a scope in the order of their ids, from behind `after`."""
    of = within.enrolments(session, scope)
    statement = select(EnrolmentToken).where(col(EnrolmentToken.id) > after, of)
    return session.exec(statement.order_by(col(EnrolmentToken.id)).limit(limit)).all()


def _is_of(row: EnrolmentToken, scope: Scope) -> bool:
    return _is_within(row.device_id, row.labels, row.group, scope)


def _is_within(device_id: str | None, labels: Mapping[str, str], group: str, scope: Scope) -> bool:
    """Tell whether all devices of a token are in a scope; of a batch the names are not known."""
    if device_id is None and scope.asks_names:
        return False
    return scope.covers(Facts(device_id or "", labels, group=group))


def revoke_token(
    session: Session, token_id: str, *, actor: str, now: datetime, scope: Scope = EVERYTHING
) -> None:
    """Make a token worthless for those that did not redeem it yet; again changes nothing.

    Raises:
        NotFoundError: No such token, or it is for devices outside of the scope.
        ConflictError: `token_used`: the devices are to be removed instead.
    """
    row = session.get(EnrolmentToken, token_id)
    if row is None or not _is_of(row, scope):
        raise NotFoundError(
            "enrolment_token_not_found", f"there is no enrolment token with the id {token_id!r}"
        )
    if row.used >= row.count:
        raise ConflictError(
            "token_used",
            f"{name_of(row)} used this token already: remove the device instead",
        )
    if row.revoked_at is None:
        row.revoked_at = now
        log.append(
            session,
            Tag.ENROLMENT_REVOKED,
            at=now,
            actor=actor,
            subject=f"enrolment/{row.id}",
            before="valid",
            after="revoked",
            detail={"devices": name_of(row), "used": row.used},
        )


def enrol(
    database: Database, signer: Signer, denials: Denials, request: Request, now: datetime
) -> Given:
    """Redeem a token; a refusal changes nothing and is written down.

    Raises:
        RequestError: `bad_enrolment_token`, `bad_csr`, `bad_identity_key`, `weak_key` or
            `bad_signature`.
        DeniedError: `token_refused` (expired, revoked, unknown, or of a removed device: a stranger
            learns no difference), `wrong_hardware` or `signer_refused`.
        ConflictError: `token_used` by other keys, `device_exists`.
        UnavailableError: The signer is away; nothing was used up.
    """
    subject = _SUBJECT_UNKNOWN
    try:
        # All that costs time is done before the token is looked up.
        checked = _checked(request)
        with database.transaction() as session:
            found = _find(session, checked)
            if found.token is not None:
                subject = f"enrolment/{found.token.id}"
            return _redeem(session, signer, found, checked, now)
    except RequestError as refusal:
        tag = Tag.DEVICE_ENROLMENT_REFUSED
        if isinstance(refusal, _TakenError):
            tag = Tag.DEVICE_ENROLMENT_CONTESTED
            _log.warning("%s: a used token was shown with other keys: %s", subject, refusal.message)
        denials.record(
            tag, at=now, actor="stranger", subject=subject, detail={"code": refusal.code}
        )
        raise


def _check(wanted: Wanted) -> None:
    if (wanted.device_id is None) == (wanted.prefix is None):
        raise RequestError(
            "bad_batch", "expected either the name of one device or the prefix of a batch's names"
        )
    if wanted.device_id is not None:
        _check_name(wanted.device_id)
        if wanted.count != 1:
            raise RequestError(
                "bad_batch",
                f"expected one use of a token that names {wanted.device_id}, found"
                f" {wanted.count}: name a batch by its prefix",
            )
    else:
        # Names that are taken are passed over: there is room for longer numbers.
        _check_name(f"{wanted.prefix}-{MAX_COUNT * MAX_COUNT}")
    if not 1 <= wanted.count <= MAX_COUNT:
        raise RequestError(
            "bad_batch", f"expected a batch of 1 to {MAX_COUNT} devices, found {wanted.count}"
        )
    if _GROUP.fullmatch(wanted.group) is None:
        raise RequestError(
            "bad_group",
            "expected a group of 1-64 characters a-z, 0-9 and inner hyphens, found"
            f" {wanted.group[:80]!r}",
        )
    if wanted.hardware_id is not None and wanted.hardware_id not in HARDWARE_IDS:
        raise RequestError(
            "bad_hardware",
            f"expected one of {', '.join(HARDWARE_IDS)}, found {wanted.hardware_id[:80]!r}",
        )


def _check_name(device_id: str) -> None:
    if not topics.is_device_id(device_id) or device_id == CONTROLLER_NAME:
        raise RequestError(
            "bad_device_id",
            "expected a device id of 1-64 characters a-z, 0-9 and inner hyphens that is not"
            f" {CONTROLLER_NAME!r}, found {device_id[:80]!r}",
        )


def _checked(request: Request) -> _Checked:
    try:
        claimed = claim.parse(request.token)
    except claim.ClaimError as error:
        raise RequestError("bad_enrolment_token", str(error)) from error
    csr, identity = read_csr(request.csr_pem), read_identity_key(request.identity_key_pem)
    read_audit_key(request.audit_key_pem)
    if len(request.audit_seed) != KEY_BYTES:
        raise RequestError(
            "bad_audit_key",
            f"expected an audit seed of {KEY_BYTES} bytes, found {len(request.audit_seed)}",
        )
    if csr.key_sha256 == identity.sha256:
        raise RequestError("weak_key", "expected two keys, found one for identity and for TLS")
    statement = enrolment_statement(
        secret_sha256=claimed.secret_sha256,
        csr_pem=request.csr_pem,
        identity_key_pem=request.identity_key_pem,
        audit_key_pem=request.audit_key_pem,
        audit_seed=request.audit_seed,
    )
    if not identity.has_signed(statement, request.signature):
        raise RequestError(
            "bad_signature",
            "expected the identity key's signature over the token, the CSR and itself, found"
            " another",
        )
    return _Checked(
        claimed, csr, identity, request.audit_key_pem, request.audit_seed, request.hardware_id
    )


def _find(session: Session, checked: _Checked) -> _Found:
    statement = (
        select(EnrolmentToken, EnrolmentRedemption, Device)
        .outerjoin(
            EnrolmentRedemption,
            (col(EnrolmentRedemption.token_id) == col(EnrolmentToken.id))
            & (col(EnrolmentRedemption.identity_key_sha256) == checked.identity.sha256),
        )
        .outerjoin(
            Device,
            col(Device.id)
            == func.coalesce(col(EnrolmentRedemption.device_id), col(EnrolmentToken.device_id)),
        )
        .where(col(EnrolmentToken.secret_sha256) == checked.claimed.secret_sha256)
    )
    row = session.exec(statement).first()
    return _Found(None, None, None) if row is None else _Found(*row)


def _redeem(
    session: Session, signer: Signer, found: _Found, checked: _Checked, now: datetime
) -> Given:
    token, device = found.token, found.device
    if token is None or (device is not None and device.revoked_at is not None):
        raise _refused()
    if found.redemption is not None:
        return _again(token, found.redemption, device, checked)
    if token.used >= token.count:
        raise _taken(token)
    if token.revoked_at is not None or token.expires_at <= now:
        raise _refused()
    if token.hardware_id not in (None, checked.hardware_id):
        raise DeniedError(
            "wrong_hardware",
            f"this enrolment token is for devices of {token.hardware_id}, this one is"
            f" {checked.hardware_id[:80]!r}",
        )
    _refuse_existing(device)
    device_id = _next_name(session, token)
    issued = certificates.issue(signer, device_id, checked.csr)
    made = _register(session, token, device_id, checked, now)
    certificates.keep(
        session, made, issued, key_sha256=checked.csr.key_sha256, follows=None, now=now
    )
    token.used, token.used_at = token.used + 1, now
    session.add(
        EnrolmentRedemption(
            token_id=token.id,
            identity_key_sha256=checked.identity.sha256,
            tls_key_sha256=checked.csr.key_sha256,
            device_id=device_id,
            chain_pem=made.chain_pem,
            redeemed_at=now,
        )
    )
    return Given(device_id, token.group, made.chain_pem)


def _again(
    token: EnrolmentToken,
    redemption: EnrolmentRedemption,
    device: Device | None,
    checked: _Checked,
) -> Given:
    """Return what was given already, to the same keys only."""
    sealed = (checked.audit_key_pem, checked.audit_seed)
    if device is None or sealed != (device.audit_key, device.audit_seed):
        raise _taken(token)
    if redemption.tls_key_sha256 != checked.csr.key_sha256:
        raise _taken(token)
    return Given(redemption.device_id, token.group, redemption.chain_pem)


def _refused() -> DeniedError:
    return DeniedError(
        "token_refused",
        "this controller does not take this enrolment token (any more): create a new one with"
        " `sprat enrolment create`",
    )


def _taken(token: EnrolmentToken) -> _TakenError:
    return _TakenError(
        "token_used",
        f"this enrolment token was used already, with other keys, for {name_of(token)}: each"
        " device needs its own; if you did not do that, remove that device",
    )


def _refuse_existing(existing: Device | None) -> None:
    if existing is not None:
        # Not which of the two: it may be a device that is not there for whoever asks.
        raise ConflictError(
            "device_exists",
            f"a device has or had the name {existing.id}, and its audit log stays its own: choose"
            " another name",
        )


def _next_name(session: Session, token: EnrolmentToken) -> str:
    """Return the name of the next device; of a batch, names that are taken are passed over."""
    if token.device_id is not None:
        return token.device_id
    while True:
        token.last_number += 1
        device_id = f"{token.prefix}-{token.last_number}"
        if session.get(Device, device_id) is None:
            return device_id


def _register(
    session: Session, token: EnrolmentToken, device_id: str, checked: _Checked, now: datetime
) -> Device:
    device = Device(
        id=device_id,
        state=DeviceState.REGISTERED.value,
        group=token.group,
        identity_key=checked.identity.pem,
        audit_key=checked.audit_key_pem,
        audit_seed=checked.audit_seed,
        hardware_id=checked.hardware_id,
        grace_days=token.grace_days,
        key_sha256=checked.csr.key_sha256,
        enrolled_at=now,
    )
    session.add(device)
    session.flush()  # the labels refer to it
    for key, value in token.labels.items():
        session.add(DeviceLabel(device_id=device_id, key=key, value=value))
    log.append(
        session,
        Tag.DEVICE_ENROLLED,
        at=now,
        actor=f"device:{device_id}",
        subject=f"device/{device_id}",
        after=inventory.digest_of(device, token.labels),
        detail={
            "enrolment": token.id,
            "group": token.group,
            "key_sha256": checked.csr.key_sha256,
            "identity_key_sha256": checked.identity.sha256,
            # Who has the log alone can so tell whose the checkpoints of a device's log are.
            "audit_key_sha256": read_audit_key(checked.audit_key_pem),
        },
    )
    return device
