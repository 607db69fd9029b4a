"""The tokens of subjects: minting, listing, revoking, and knowing one again.

A token is `sprat_`, 256 random bits in base64url, and a checksum of both, so that a mistyped one is
known without a look-up and a leaked one is found by its form. Only its SHA-256 is kept, which is
enough for a secret that nobody chose. It allows what its role and scope say of what its owner may
at the moment, and it ends.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from sprat_controller.access import scopes
from sprat_controller.access.actor import DEFAULT_LIFETIME, Actor, Cap
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.access.snapshot import Policies, renewed
from sprat_controller.audit import changes, log
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import OperatorToken, Subject

PREFIX: Final = "sprat_"
# Those of before had no checksum.
_FORM: Final = re.compile(r"(sprat_[A-Za-z0-9_-]{43})([A-Za-z0-9_-]{6})?")
# `last_used_at` is for people: writing it for each request would cost a disk flush each.
LAST_USED_STEP: Final = timedelta(minutes=5)
_OWNER: Final = aliased(Subject)
_KNOWN: Final = (
    sqlalchemy.select(
        col(OperatorToken.id),
        col(OperatorToken.subject_id),
        col(OperatorToken.role),
        col(OperatorToken.scope),
        col(OperatorToken.expires_at),
        col(OperatorToken.last_used_at),
    )
    .join(Subject, col(Subject.id) == col(OperatorToken.subject_id))
    .outerjoin(_OWNER, col(_OWNER.id) == col(Subject.owner_id))
    .where(
        col(OperatorToken.secret_sha256) == sqlalchemy.bindparam("sha256"),
        col(OperatorToken.revoked_at).is_(None),
        col(Subject.disabled_at).is_(None),
        col(_OWNER.disabled_at).is_(None),
    )
)


@dataclass(frozen=True)
class Wanted:
    """A token to make.

    Attributes:
        subject: Whose it is.
        name: For people; one that is not revoked may have it, of a subject's.
        role: The most that it allows.
        scope: The devices that it is over, at most.
        lifetime: How long it is good for.
    """

    subject: str
    name: str
    role: str
    scope: Scope = EVERYTHING
    lifetime: timedelta = DEFAULT_LIFETIME


def mint(
    session: Session,
    wanted: Wanted,
    *,
    made_by: Actor | None,
    now: datetime,
    new_id: Callable[[], str],
    new_secret: Callable[[], str],
) -> tuple[OperatorToken, str]:
    """Add a token and return its row and, for this once, its text.

    Args:
        session: An open `Database.transaction()`.
        wanted: What it is for; its scope is narrowed to what the maker holds, and it ends no later
            than the token by which its owner makes it.
        made_by: Who makes it; None: the controller itself.
        now: The caller's clock.
        new_id: Makes the id of the row.
        new_secret: Makes 256 random bits in base64url without padding, 43 characters.

    Raises:
        ConflictError: `name_taken`.
        DeniedError: `cannot_grant`: it would allow what the maker does not hold.
    """
    _check_name(session, wanted)
    scope, expires_at = wanted.scope, now + wanted.lifetime
    if made_by is not None:
        maker = renewed(session, made_by, now)
        scope = maker.grantable(maker.policy.permissions_of(wanted.role), scope)
        expires_at = _end(session, expires_at, wanted.subject, made_by)
    text = _with_checksum(f"{PREFIX}{new_secret()}")
    row = OperatorToken(
        id=new_id(),
        subject_id=wanted.subject,
        name=wanted.name,
        role=wanted.role,
        scope=scopes.read(scope.text).text,
        secret_sha256=_digest(text),
        created_at=now,
        made_by=made_by.subject if made_by else "",
        made_with=made_by.session if made_by else "",
        expires_at=expires_at,
    )
    session.add(row)
    log.append(
        session,
        Tag.TOKEN_CREATED,
        at=now,
        actor=made_by.audit_name if made_by else "controller",
        subject=f"token/{row.id}",
        after=changes.digest(_state(row)),
        detail={"before": {}, "after": _state(row)},
    )
    return row, text


def every(session: Session, subject: str | None = None) -> Sequence[OperatorToken]:
    """Return all tokens, or those of a subject, oldest first."""
    statement = select(OperatorToken)
    if subject is not None:
        statement = statement.where(OperatorToken.subject_id == subject)
    order = (col(OperatorToken.created_at), col(OperatorToken.id))
    return session.exec(statement.order_by(*order)).all()


def find(session: Session, token_id: str) -> OperatorToken:
    """Return a token.

    Raises:
        NotFoundError: No such token.
    """
    row = session.get(OperatorToken, token_id)
    if row is None:
        raise unknown(token_id)
    return row


def unknown(token_id: str) -> NotFoundError:
    """Return the refusal of a token that is not there, or not for whom asks to see."""
    return NotFoundError("token_not_found", f"there is no token with the id {token_id!r}")


def revoke(session: Session, token_id: str, *, actor: str, now: datetime) -> None:
    """Make a token worthless at once, and what its owner made with it; again changes nothing.

    Raises:
        NotFoundError: No such token.
    """
    row = find(session, token_id)
    if row.revoked_at is not None:
        return
    before = _state(row)
    row.revoked_at = now
    session.add(row)
    session.flush()
    log.append(
        session,
        Tag.TOKEN_REVOKED,
        at=now,
        actor=actor,
        subject=f"token/{row.id}",
        before=changes.digest(before),
        after=changes.digest(_state(row)),
        detail={"before": before, "after": _state(row)},
    )
    # Whoever stole a token and made another of it has neither any more.
    made = select(OperatorToken.id).where(
        OperatorToken.made_with == row.id, OperatorToken.subject_id == row.subject_id
    )
    for other in session.exec(made).all():
        revoke(session, other, actor=actor, now=now)


def recognise(database: Database, policies: Policies, text: str, now: datetime) -> Actor | None:
    """Return who shows this token; None: it is unknown, revoked or over, or its owner disabled."""
    form = _FORM.fullmatch(text)
    if form is None or (form[2] and text != _with_checksum(form[1])):
        return None
    with database.reading() as session:
        row = session.connection().execute(_KNOWN, {"sha256": _digest(text)}).first()
        if row is None or (row.expires_at and row.expires_at <= now):
            return None
        policy = policies.current(session, now)
    if row.last_used_at is None or now - row.last_used_at >= LAST_USED_STEP:
        _touch(database, row.id, now)
    return Actor(row.subject_id, policy, row.id, "token", Cap(row.role, scopes.read(row.scope)))


def _check_name(session: Session, wanted: Wanted) -> None:
    same = select(OperatorToken).where(
        OperatorToken.subject_id == wanted.subject,
        OperatorToken.name == wanted.name,
        col(OperatorToken.revoked_at).is_(None),
    )
    if session.exec(same).first():
        raise ConflictError(
            "name_taken",
            f"{wanted.subject} has a token named {wanted.name!r} already: revoke it first, or"
            " choose another name",
        )


def _end(session: Session, end: datetime, subject: str, made_by: Actor) -> datetime:
    """Return when a token ends that somebody makes: of one's own, no later than what it is by."""
    used = session.get(OperatorToken, made_by.session) if subject == made_by.subject else None
    return end if used is None or used.expires_at is None else min(end, used.expires_at)


def _state(row: OperatorToken) -> dict[str, object]:
    """Return what the audit log keeps of a token."""
    return {
        "owner": row.subject_id,
        "name": row.name,
        "role": row.role,
        "scope": row.scope,
        "expires_at": row.expires_at.isoformat() if row.expires_at else "",
        "revoked": row.revoked_at is not None,
    }


def _touch(database: Database, token_id: str, now: datetime) -> None:
    with database.transaction() as session:
        row = session.get(OperatorToken, token_id)
        if row is not None:
            row.last_used_at = now


def _with_checksum(text: str) -> str:
    checksum = zlib.crc32(text.encode()).to_bytes(4, "big")
    return text + base64.urlsafe_b64encode(checksum).rstrip(b"=").decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
