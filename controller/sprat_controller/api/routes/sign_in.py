"""Signing in with a password, sessions, and setting passwords."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status
from sqlmodel import Session

from sprat_controller.access import local_users, passwords, persons, sessions, subjects
from sprat_controller.access.actor import Actor
from sprat_controller.access.local_users import Attempt, Desk
from sprat_controller.access.policy import Permission
from sprat_controller.access.sessions import Kind
from sprat_controller.api import sign_in_schema as schema
from sprat_controller.api.auth import COOKIE, check_site, demand, set_cookie, signed_in, source_of
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AllParts, Parts
from sprat_controller.errors import ConflictError
from sprat_controller.store.tables import OperatorToken

router = APIRouter(tags=["sessions"])
SignedIn = Annotated[Actor, Depends(signed_in)]


@router.post("/login", responses=error_answers(400, 413, 429, 503))
def login(
    body: schema.LoginRequest, request: Request, response: Response, parts: AllParts
) -> schema.Login:
    """Begin a session: 12 hours at most, and 30 minutes after its last use."""
    check_site(request, parts)
    source, now = source_of(request), parts.clock()
    parts.gates.login.enter(source, now)
    attempt = Attempt(body.name, body.password, source)
    row, text = local_users.sign_in(_desk(parts), attempt, body.kind, now)
    is_cookie = body.kind is Kind.COOKIE
    if is_cookie:
        set_cookie(response, COOKIE, text, row.expires_at - now)
    return schema.Login(
        id=row.id,
        subject=row.subject_id,
        expires_at=row.expires_at,
        token=None if is_cookie else text,
        csrf=sessions.csrf_of(text) if is_cookie else None,
    )


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT, responses=error_answers(409))
def logout(actor: SignedIn, response: Response, parts: AllParts) -> None:
    """End the session by which this is asked, at once."""
    if actor.cap is not None:
        raise ConflictError(
            "no_session", "expected a session, found a token: `sprat tokens revoke` ends one"
        )
    with parts.database.transaction() as session:
        row = sessions.find(session, actor.session)
        sessions.end(session, row, actor=actor.audit_name, now=parts.clock())
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")


@router.get("/sessions")
def list_sessions(actor: SignedIn, parts: AllParts) -> schema.LoginSessionPage:
    """One's own sessions that are not over; to a manager of tokens those of all."""
    of_all = actor.held(Permission.MANAGE_TOKENS) is not None
    with parts.database.reading() as session:
        rows = sessions.every(session, parts.clock(), None if of_all else actor.subject)
    return schema.LoginSessionPage(items=[schema.LoginSession.model_validate(row) for row in rows])


@router.delete(
    "/sessions/{session_id}", status_code=status.HTTP_204_NO_CONTENT, responses=error_answers(404)
)
def revoke_session(session_id: str, actor: SignedIn, parts: AllParts) -> None:
    """End a session at once, on every replica."""
    with parts.database.transaction() as session:
        row = sessions.find(session, session_id)
        if row.subject_id != actor.subject and actor.held(Permission.MANAGE_TOKENS) is None:
            raise sessions.unknown(session_id)
        sessions.end(session, row, actor=actor.audit_name, now=parts.clock())


@router.put(
    "/users/{user}/password",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=error_answers(400, 404, 413, 429, 503),
)
def set_password(
    user: str, body: schema.PasswordChange, actor: SignedIn, request: Request, parts: AllParts
) -> None:
    """Set one's own password, or that of somebody who holds nothing that one does not hold.

    Their sessions end, all but the one by which this is asked.
    """
    source, now = source_of(request), parts.clock()
    is_own = user in (actor.name, actor.subject)
    if not is_own:
        demand(request, parts, actor, Permission.MANAGE_USERS)
    parts.gates.login.enter(source, now)
    with parts.database.reading() as session:
        subject = subjects.find(session, user)
        # A token that allows less than its owner may must not become a password that allows it all.
        subjects.check_reach(session, subject.id, actor, now)
        must_prove = is_own and local_users.has_password(session, subject.id)
    new = passwords.checked(body.password, subject.name)
    if must_prove:
        local_users.prove(_desk(parts), Attempt(subject.name, body.current or "", source), now)
    hashed = parts.passwords.hash(new)
    with parts.database.transaction() as session:
        subject = subjects.find(session, user)
        subjects.check_reach(session, subject.id, actor, now)
        local_users.set_password(
            session,
            subject,
            hashed,
            by=_setter(session, actor),
            keep=actor.session,
            now=now,
            row_id=parts.ids.new_id(),
        )


def _setter(session: Session, actor: Actor) -> str:
    """Return whose hand sets a password: who made the token that it is set by may have kept it."""
    token = session.get(OperatorToken, actor.session)
    by = token.made_by if token is not None and token.made_by else actor.subject
    return persons.person(session, by)


def _desk(parts: Parts) -> Desk:
    return Desk(
        parts.database, parts.passwords, parts.denials, parts.ids.new_id, parts.ids.new_secret
    )
