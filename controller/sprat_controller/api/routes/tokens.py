"""Tokens: one's own, those of services that act for one, and for a manager those of all."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, status
from sqlmodel import Session

from sprat_controller.access import grants, persons, scopes, subjects, tokens
from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import ABOUT, Permission
from sprat_controller.access.tokens import Wanted
from sprat_controller.api import access_schema as schema
from sprat_controller.api.auth import csrf_token, demand, signed_in
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AllParts, DatabasePart

router = APIRouter(tags=["tokens"])
SignedIn = Annotated[Actor, Depends(signed_in)]


@router.get("/whoami")
def whoami(actor: SignedIn, request: Request) -> schema.WhoAmI:
    """Who shows this token or session, and what both together allow."""
    held = {permission: actor.held(permission) for permission in Permission}
    bindings = actor.policy.bindings_of(actor.subject)
    return schema.WhoAmI(
        subject=actor.subject,
        name=actor.name,
        roles=[schema.RoleOver(role=one.role, scope=one.scope) for one in bindings],
        token=actor.session,
        token_role=actor.cap.role if actor.cap else "",
        token_scope=actor.cap.scope.text if actor.cap else "",
        authn=actor.authn,
        csrf=csrf_token(request),
        permissions=[
            schema.Held(permission=permission, about=ABOUT[permission], scope=scope.text)
            for permission, scope in held.items()
            if scope is not None
        ],
    )


@router.get("/tokens")
def list_tokens(actor: SignedIn, database: DatabasePart) -> schema.TokenPage:
    """One's own tokens, without their secrets; to a manager of tokens all there are."""
    of_all = actor.held(Permission.MANAGE_TOKENS) is not None
    with database.reading() as session:
        rows = tokens.every(session, None if of_all else actor.subject)
    return schema.TokenPage(items=[schema.Token.model_validate(row) for row in rows])


@router.post(
    "/tokens", status_code=status.HTTP_201_CREATED, responses=error_answers(400, 404, 409, 413, 422)
)
def create_token(
    body: schema.TokenRequest, actor: SignedIn, request: Request, parts: AllParts
) -> schema.NewToken:
    """Make a token; its text is answered this once."""
    scope, now = scopes.read(body.scope), parts.clock()
    grants.check_role(actor.policy, body.role)
    with parts.database.reading() as session:
        owner = _owner(session, actor, body.subject, request, parts)
    wanted = Wanted(owner, body.name, body.role, scope, timedelta(days=body.expires_days))
    with parts.database.transaction() as session:
        row, text = tokens.mint(
            session,
            wanted,
            made_by=actor,
            now=now,
            new_id=parts.ids.new_id,
            new_secret=parts.ids.new_secret,
        )
    made = schema.Token.model_validate(row)
    return schema.NewToken(**made.model_dump(), token=text)


@router.delete(
    "/tokens/{token_id}", status_code=status.HTTP_204_NO_CONTENT, responses=error_answers(404)
)
def revoke_token(token_id: str, actor: SignedIn, parts: AllParts) -> None:
    """Make a token worthless at once, and what its owner made with it."""
    with parts.database.transaction() as session:
        row = tokens.find(session, token_id)
        if not _is_own(session, actor, row.subject_id) and not _manages(actor):
            raise tokens.unknown(token_id)
        tokens.revoke(session, token_id, actor=actor.audit_name, now=parts.clock())


def _owner(
    session: Session, actor: Actor, named: str | None, request: Request, parts: AllParts
) -> str:
    """Return whose token is to be made.

    Raises:
        NotFoundError: There is no such subject.
        DeniedError: The actor has no say over their tokens.
    """
    if named in (None, actor.subject, actor.name):
        return actor.subject
    if not _manages(actor):
        # Who has no say over users learns nothing of who there is.
        own = {row.id for row in subjects.every(session) if _is_own(session, actor, row.id)}
        if named not in own and f"service:{named}" not in own:
            demand(request, parts, actor, Permission.MANAGE_TOKENS)
    return subjects.find(session, named or "").id


def _manages(actor: Actor) -> bool:
    return actor.held(Permission.MANAGE_TOKENS) is not None


def _is_own(session: Session, actor: Actor, subject: str) -> bool:
    """Tell whether a subject is the actor, or a service that acts for them."""
    return subject == actor.subject or persons.person(session, subject) == actor.subject
