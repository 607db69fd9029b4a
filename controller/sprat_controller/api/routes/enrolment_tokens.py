"""Claim tokens for new devices."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, status

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import schema
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AuthorityPart, DatabasePart, IdsPart, Now
from sprat_controller.api.routes.paging import AfterName, Limit
from sprat_controller.fleet import enrolment, inventory

router = APIRouter(prefix="/enrolment-tokens", tags=["enrolment"])
Enroller = Annotated[Actor, Depends(require(Permission.ENROL))]


@router.get("")
def list_enrolment_tokens(
    actor: Enroller, database: DatabasePart, limit: Limit = 100, after: AfterName = ""
) -> schema.EnrolmentTokenPage:
    """Enrolment tokens, oldest first, without their secrets."""
    with database.reading() as session:
        scope = actor.scope(Permission.ENROL)
        rows = enrolment.tokens(session, scope, after=after, limit=limit)
    return schema.EnrolmentTokenPage(
        items=[schema.EnrolmentToken.model_validate(row) for row in rows],
        next=rows[-1].id if len(rows) == limit else None,
    )


@router.post("", status_code=status.HTTP_201_CREATED, responses=error_answers(400, 409, 413, 422))
def create_enrolment_token(
    body: schema.EnrolmentTokenRequest,
    actor: Enroller,
    *,
    database: DatabasePart,
    authority: AuthorityPart,
    ids: IdsPart,
    now: Now,
) -> schema.NewEnrolmentToken:
    """Make a token for a device or a batch of them; its text is answered this once."""
    inventory.check_labels(body.labels)
    wanted = enrolment.Wanted(
        device_id=body.device_id,
        prefix=body.prefix,
        count=body.count,
        labels=body.labels,
        group=body.group,
        hardware_id=body.hardware_id,
        grace_days=body.grace_days,
        lifetime=timedelta(seconds=body.ttl_s),
    )
    with database.transaction() as session:
        row, claimed = enrolment.create_token(
            session,
            wanted,
            actor=actor.audit_name,
            now=now,
            ca_fingerprint=authority.fingerprint,
            new_id=ids.new_id,
            new_secret=ids.new_secret,
            scope=actor.scope(Permission.ENROL),
        )
    made = schema.EnrolmentToken.model_validate(row)
    return schema.NewEnrolmentToken(**made.model_dump(), token=str(claimed))


@router.delete(
    "/{token_id}", status_code=status.HTTP_204_NO_CONTENT, responses=error_answers(404, 409)
)
def revoke_enrolment_token(
    token_id: str, actor: Enroller, database: DatabasePart, now: Now
) -> None:
    """Make an enrolment token worthless."""
    with database.transaction() as session:
        scope, by = actor.scope(Permission.ENROL), actor.audit_name
        enrolment.revoke_token(session, token_id, actor=by, now=now, scope=scope)
