"""People who sign in with a password: proving it, being locked out, and setting another.

Whoever is not there, is disabled or has no password is answered as for a wrong password, after the
same work. Until the controller has proof it says nothing but yes, no and wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

from sprat_controller.access import identities, lockout, sessions, tokens
from sprat_controller.access.actor import SubjectKind, subject_of
from sprat_controller.access.lockout import Failures
from sprat_controller.access.passwords import Passwords, Verdict
from sprat_controller.access.sessions import Begun, Kind
from sprat_controller.audit import changes, log
from sprat_controller.audit.denials import Denials
from sprat_controller.errors import DeniedError, RequestError, TooManyRequestsError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import (
    LoginFailure,
    LoginSession,
    OperatorToken,
    Password,
    Subject,
)

AUTHN: Final = "password"


@dataclass(frozen=True)
class Attempt:
    """Somebody says who they are.

    Attributes:
        name: As they typed it.
        password: As they typed it.
        source: The address that they come from.
    """

    name: str
    password: str
    source: str


@dataclass(frozen=True)
class Desk:
    """What is needed to tell whether an attempt is right."""

    database: Database
    passwords: Passwords
    denials: Denials
    new_id: Callable[[], str]
    new_secret: Callable[[], str]


def sign_in(desk: Desk, attempt: Attempt, kind: Kind, now: datetime) -> tuple[LoginSession, str]:
    """Begin a session of who proves their password; return its row and, this once, its secret.

    Raises:
        DeniedError: `login_failed`.
        TooManyRequestsError: `locked_out`.
        UnavailableError: `busy`.
    """
    password, verdict = _proved(desk, attempt, now)
    # Outside of the transaction, in which others would wait for it.
    anew = desk.passwords.hash(attempt.password) if verdict.is_outdated else None
    with desk.database.transaction() as session:
        kept = _still(session, password, attempt, now)
        if anew is not None:
            kept.hash = anew
        begun = Begun(kept.subject_id, kind, AUTHN, attempt.source)
        return sessions.begin(
            session, begun, now=now, new_id=desk.new_id, new_secret=desk.new_secret
        )


def prove(desk: Desk, attempt: Attempt, now: datetime) -> None:
    """Check somebody's password, for what asks for it again.

    Raises:
        DeniedError: `login_failed`.
        TooManyRequestsError: `locked_out`.
        UnavailableError: `busy`.
    """
    password, _ = _proved(desk, attempt, now)
    with desk.database.transaction() as session:
        _still(session, password, attempt, now)


def has_password(session: Session, subject: str) -> bool:
    """Tell whether somebody can sign in with a password."""
    return _current(session, subject) is not None


def set_password(
    session: Session,
    subject: Subject,
    hashed: str,
    *,
    by: str,
    keep: str,
    now: datetime,
    row_id: str,
) -> None:
    """Replace a person's password, and end what may have come of the one before.

    Their other sessions end, and tokens end that were made in them; of a password that somebody
    else had set, also those that were made in sessions that are over.

    Args:
        session: An open `Database.transaction()`.
        subject: Whose it is.
        hashed: As `Passwords.hash` returned it.
        by: Who sets it: a subject.
        keep: Id of the session that goes on, the one in which it is set.
        now: The caller's clock.
        row_id: Of the row.

    Raises:
        RequestError: `not_a_person`, or `not_a_local_user`.
    """
    if subject.kind != SubjectKind.USER:
        raise RequestError(
            "not_a_person", f"{subject.id} signs in with tokens only: make one (`sprat tokens`)"
        )
    # Who was shut out there would still come in here.
    if identities.of(session, subject.id) is not None:
        raise RequestError(
            "not_a_local_user",
            f"{subject.id} signs in at a provider, which is where their password is (`sprat login"
            " --oidc`)",
        )
    before = _current(session, subject.id)
    if before is not None:
        before.hash, before.ended_at = None, now
        session.add(before)
    made = Password(id=row_id, subject_id=subject.id, hash=hashed, set_at=now, set_by=by)
    session.add(made)
    _forget_failures(session, subject.name)
    session.flush()
    log.append(
        session,
        Tag.PASSWORD_SET,
        at=now,
        actor=by,
        subject=f"subject/{subject.id}",
        before=_which(before) if before else "none",
        after=_which(made),
        detail={"was_set_by": before.set_by if before else ""},
    )
    since = before.set_at if before is not None and before.set_by != subject.id else None
    _end_all(session, subject.id, keep, since, by=by, now=now)


def _which(password: Password) -> str:
    """Return a digest of who set a password and when; nothing of what it is."""
    return changes.digest({"by": password.set_by, "at": password.set_at.isoformat()})


def _end_all(
    session: Session, subject: str, keep: str, since: datetime | None, *, by: str, now: datetime
) -> None:
    """End sessions, and tokens made in them or, if a moment is given, in any since then."""
    is_suspect = col(LoginSession.ended_at).is_(None)
    if since is not None:
        is_suspect = sqlalchemy.or_(is_suspect, col(LoginSession.created_at) >= since)
    found = session.exec(
        select(LoginSession).where(
            LoginSession.subject_id == subject, LoginSession.id != keep, is_suspect
        )
    ).all()
    for row in found:
        sessions.end(session, row, actor=by, now=now)
        made = select(OperatorToken.id).where(OperatorToken.made_with == row.id)
        for token_id in session.exec(made).all():
            tokens.revoke(session, token_id, actor=by, now=now)


def _proved(desk: Desk, attempt: Attempt, now: datetime) -> tuple[Password, Verdict]:
    """Return the password that was proved."""
    with desk.database.reading() as session:
        _check_open(session, attempt, now)
        subject = session.get(Subject, subject_of(SubjectKind.USER, attempt.name))
        password = _current(session, subject.id) if subject else None
    verdict = desk.passwords.compare(password.hash if password else None, attempt.password)
    if not verdict.is_right or password is None or subject is None or subject.disabled_at:
        raise _failed(desk, attempt, subject.id if subject else None, now)
    return password, verdict


def _still(session: Session, password: Password, attempt: Attempt, now: datetime) -> Password:
    """Return the row of a proved password, if all is still as it was before the comparison."""
    _check_open(session, attempt, now)
    kept, subject = session.get(Password, password.id), session.get(Subject, password.subject_id)
    if kept is None or kept.hash != password.hash or subject is None or subject.disabled_at:
        raise _wrong()
    _forget_failures(session, attempt.name)
    return kept


def _check_open(session: Session, attempt: Attempt, now: datetime) -> None:
    until = lockout.locked_until(_kept(session.get(LoginFailure, _key(attempt.name))), now)
    if until is not None:
        seconds = int((until - now).total_seconds()) + 1
        raise TooManyRequestsError(
            "locked_out",
            f"this name failed {lockout.LIMIT} times in a row: try again in {seconds} s; sessions"
            " and tokens go on",
            {"retry_after_s": seconds},
        )


def _failed(desk: Desk, attempt: Attempt, subject: str | None, now: datetime) -> DeniedError:
    """Count a failure and write it down; return the answer."""
    # A name that nobody has may be a password that was typed too early: it is not written down.
    about = f"subject/{subject}" if subject else "login/unknown"
    with desk.database.transaction() as session:
        row = session.get(LoginFailure, _key(attempt.name))
        after = lockout.after_failure(_kept(row), now)
        row = row or LoginFailure(name_sha256=_key(attempt.name), failed=0, last_at=now)
        row.failed, row.last_at, row.locked_until = after.count, after.last_at, after.locked_until
        session.add(row)
        old = sqlalchemy.delete(LoginFailure).where(
            col(LoginFailure.last_at) < now - max(lockout.WINDOW, lockout.LOCKED_FOR)
        )
        session.connection().execute(old)
        if after.locked_until is not None:
            log.append(
                session,
                Tag.LOGIN_LOCKED,
                at=now,
                actor="anonymous",
                subject=about,
                outcome="denied",
                reason="locked_out",
                detail={
                    "source": attempt.source,
                    "failed": lockout.LIMIT,
                    "until": after.locked_until.isoformat(),
                },
            )
    detail = {"code": "login_failed", "source": attempt.source}
    desk.denials.record(Tag.LOGIN_FAILED, at=now, actor="anonymous", subject=about, detail=detail)
    return _wrong()


def _wrong() -> DeniedError:
    return DeniedError(
        "login_failed",
        "expected the name of a user and their password, found another: try again, or ask an"
        " administrator to set it anew",
    )


def _current(session: Session, subject: str) -> Password | None:
    found = select(Password).where(Password.subject_id == subject, col(Password.ended_at).is_(None))
    return session.exec(found).first()


def _forget_failures(session: Session, name: str) -> None:
    row = session.get(LoginFailure, _key(name))
    if row is not None:
        session.delete(row)


def _kept(row: LoginFailure | None) -> Failures | None:
    return None if row is None else Failures(row.failed, row.last_at, row.locked_until)


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
