"""Sessions: who signed in, for how long, and how they end.

    sprat-session.<43 characters of base64url: 256 random bits>

Only the SHA-256 is kept. It is carried in a cookie by browsers and as a bearer by the CLI, and one
is never taken for the other: what a browser sends by itself must say more (`csrf_of`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

from sprat_controller.access import provided
from sprat_controller.access.actor import Actor
from sprat_controller.access.snapshot import Policies
from sprat_controller.audit import log
from sprat_controller.errors import NotFoundError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import LoginSession, Subject, UtcDateTime

PREFIX: Final = "sprat-session."
LIFETIME: Final = timedelta(hours=12)
IDLE: Final = timedelta(minutes=30)
# Writing each use down would cost a disk flush each: idling is noticed so much early at most.
LAST_USED_STEP: Final = timedelta(minutes=1)
_FORM: Final = re.compile(r"sprat-session\.[A-Za-z0-9_-]{43}")
_KNOWN: Final = (
    sqlalchemy.select(
        col(LoginSession.id),
        col(LoginSession.subject_id),
        col(LoginSession.authn),
        col(LoginSession.last_used_at),
    )
    .join(Subject, col(Subject.id) == col(LoginSession.subject_id))
    .where(
        col(LoginSession.secret_sha256) == sqlalchemy.bindparam("sha256"),
        col(LoginSession.kind) == sqlalchemy.bindparam("kind"),
        col(LoginSession.ended_at).is_(None),
        col(LoginSession.expires_at) > sqlalchemy.bindparam("now", type_=UtcDateTime()),
        col(LoginSession.last_used_at) > sqlalchemy.bindparam("idle", type_=UtcDateTime()),
        col(Subject.disabled_at).is_(None),
    )
)


class Kind(StrEnum):
    """How a session's secret is carried."""

    COOKIE = "cookie"
    BEARER = "bearer"


@dataclass(frozen=True)
class Begun:
    """What a session begins with.

    Attributes:
        subject: Who signed in.
        kind: How its secret is carried.
        authn: How they showed who they are.
        source: The address that they came from.
        lifetime: How long it lasts, at most.
        provider_sid: The session at a provider that it comes of; None: none, or it has no name.
    """

    subject: str
    kind: Kind
    authn: str
    source: str
    lifetime: timedelta = LIFETIME
    provider_sid: str | None = None


def begin(
    session: Session,
    begun: Begun,
    *,
    now: datetime,
    new_id: Callable[[], str],
    new_secret: Callable[[], str],
) -> tuple[LoginSession, str]:
    """Add a session and return its row and, for this once, its secret."""
    text = f"{PREFIX}{new_secret()}"
    row = LoginSession(
        id=new_id(),
        subject_id=begun.subject,
        secret_sha256=_digest(text),
        kind=begun.kind.value,
        authn=begun.authn,
        source=begun.source,
        created_at=now,
        last_used_at=now,
        expires_at=now + min(begun.lifetime, LIFETIME),
        provider_sid=begun.provider_sid,
    )
    session.add(row)
    session.flush()
    _record(session, Tag.SESSION_BEGUN, row, begun.subject, now)
    return row, text


def recognise(
    database: Database, policies: Policies, text: str, kind: Kind, now: datetime
) -> Actor | None:
    """Return who shows this secret; None: it is unknown or over, or its owner disabled."""
    if _FORM.fullmatch(text) is None:
        return None
    asked = {"sha256": _digest(text), "kind": kind.value, "now": now, "idle": now - IDLE}
    with database.reading() as session:
        row = session.connection().execute(_KNOWN, asked).first()
        if row is None:
            return None
        policy = policies.current(session, now)
    if now - row.last_used_at >= LAST_USED_STEP:
        with database.transaction() as session:
            used = session.get(LoginSession, row.id)
            if used is not None:
                used.last_used_at = max(used.last_used_at, now)
    return Actor(row.subject_id, policy, row.id, row.authn)


def csrf_of(text: str) -> str:
    """Return what a browser must say beside its cookie to change something: the page knows it.

    Another site can have the cookie sent, and can neither read it nor this.
    """
    digest = hashlib.sha256(b"sprat/v1 csrf\0" + text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def every(session: Session, now: datetime, subject: str | None = None) -> Sequence[LoginSession]:
    """Return the sessions that are not over, of all or of a subject, oldest first."""
    statement = select(LoginSession).where(
        col(LoginSession.ended_at).is_(None),
        col(LoginSession.expires_at) > now,
        col(LoginSession.last_used_at) > now - IDLE,
    )
    if subject is not None:
        statement = statement.where(LoginSession.subject_id == subject)
    order = (col(LoginSession.created_at), col(LoginSession.id))
    return session.exec(statement.order_by(*order)).all()


def find(session: Session, session_id: str) -> LoginSession:
    """Return a session.

    Raises:
        NotFoundError: No such session.
    """
    row = session.get(LoginSession, session_id)
    if row is None:
        raise unknown(session_id)
    return row


def unknown(session_id: str) -> NotFoundError:
    """Return the refusal of a session that is not there, or not for whom asks to see."""
    return NotFoundError("session_not_found", f"there is no session with the id {session_id!r}")


def end(session: Session, row: LoginSession, *, actor: str, now: datetime) -> None:
    """Make a session worthless at once; again changes nothing."""
    if row.ended_at is not None:
        return
    row.ended_at = now
    session.add(row)
    session.flush()
    _record(session, Tag.SESSION_ENDED, row, actor, now)
    if row.authn == provided.AUTHN:
        provided.after_an_end(session, row.subject_id, now)


def _record(session: Session, tag: Tag, row: LoginSession, actor: str, now: datetime) -> None:
    detail = {
        "owner": row.subject_id,
        "authn": row.authn,
        "kind": row.kind,
        "source": row.source,
        "expires_at": row.expires_at.isoformat(),
    }
    has_ended = row.ended_at is not None
    log.append(
        session,
        tag,
        at=now,
        actor=actor,
        subject=f"session/{row.id}",
        before="open" if has_ended else None,
        after="ended" if has_ended else "open",
        detail=detail,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
