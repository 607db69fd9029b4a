"""Tokens of people and services."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, status

from sprat_controller.access import tokens
from sprat_controller.access.policy import GRANTS, Actor, Permission
from sprat_controller.api import schema
from sprat_controller.api.auth import require, signed_in
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import DatabasePart, IdsPart, Now
from sprat_controller.store import queries

router = APIRouter(tags=["tokens"])
Manager = Annotated[Actor, Depends(require(Permission.MANAGE_TOKENS))]


@router.get("/whoami")
def whoami(actor: Annotated[Actor, Depends(signed_in)]) -> schema.WhoAmI:
    """Whose token this is, and what it allows."""
    permissions = sorted(permission.value for permission in GRANTS[actor.role])
    return schema.WhoAmI(name=actor.name, role=actor.role, permissions=permissions)


@router.get("/tokens")
def list_tokens(_: Manager, database: DatabasePart) -> schema.TokenPage:
    """All tokens, without their secrets."""
    with database.reading() as session:
        rows = queries.operator_tokens(session)
    return schema.TokenPage(items=[schema.Token.model_validate(row) for row in rows])


@router.post("/tokens", status_code=status.HTTP_201_CREATED, responses=error_answers(409, 413, 422))
def create_token(
    body: schema.TokenRequest, actor: Manager, database: DatabasePart, ids: IdsPart, now: Now
) -> schema.NewToken:
    """Make a token; its text is answered this once."""
    days = body.expires_days
    with database.transaction() as session:
        row, text = tokens.mint(
            session,
            name=body.name,
            role=body.role,
            actor=actor.audit_name,
            now=now,
            new_id=ids.new_id,
            new_secret=ids.new_secret,
            lifetime=timedelta(days=days) if days else None,
        )
    made = schema.Token.model_validate(row)
    return schema.NewToken(**made.model_dump(), token=text)


@router.delete(
    "/tokens/{token_id}", status_code=status.HTTP_204_NO_CONTENT, responses=error_answers(404)
)
def revoke_token(token_id: str, actor: Manager, database: DatabasePart, now: Now) -> None:
    """Make a token worthless at once."""
    with database.transaction() as session:
        tokens.revoke(session, token_id, actor=actor.audit_name, now=now)
