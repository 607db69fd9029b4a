"""How long audit records are kept, and which are kept all the same."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, status

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import keeping_schema as schema
from sprat_controller.api.auth import require, require_everywhere
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import DatabasePart, IdsPart, Now
from sprat_controller.audit import retention
from sprat_controller.audit.expiries import ALL_TAGS, FLOOR_DAYS, Policy
from sprat_controller.audit.retention import Held

router = APIRouter(prefix="/audit", tags=["audit"])
WholeAuditor = Annotated[Actor, Depends(require_everywhere(Permission.READ_AUDIT))]
Keeper = Annotated[Actor, Depends(require(Permission.MANAGE_AUDIT))]


@router.get("/retention")
def list_retention(_: WholeAuditor, database: DatabasePart) -> schema.RetentionPage:
    """How long records are kept, by tag; without a policy, for ever."""
    with database.reading() as session:
        rows = retention.policies(session)
    items = [schema.Retention.model_validate(row) for row in rows]
    return schema.RetentionPage(items=items, floor_days=FLOOR_DAYS)


@router.post("/retention", responses=error_answers(400, 409, 413, 422))
def set_retention(
    body: schema.RetentionRequest, actor: Keeper, database: DatabasePart, now: Now
) -> schema.Retention:
    """Say how long records are kept: then their bodies are erased, and their hashes stay."""
    policy, by = Policy(body.tag, body.days), actor.audit_name
    with database.transaction() as session:
        row = retention.set_policy(session, policy, body.force_reason, actor=by, now=now)
    return schema.Retention.model_validate(row)


@router.delete(
    "/retention", status_code=status.HTTP_204_NO_CONTENT, responses=error_answers(404, 422)
)
def clear_retention(
    actor: Keeper,
    database: DatabasePart,
    now: Now,
    tag: Annotated[str, Query(max_length=200, description="Empty: that of all tags")] = ALL_TAGS,
) -> None:
    """Remove a policy: records of that tag are kept as all others are, or for ever."""
    with database.transaction() as session:
        retention.clear_policy(session, tag, actor=actor.audit_name, now=now)


@router.get("/holds")
def list_holds(_: WholeAuditor, database: DatabasePart) -> schema.HoldPage:
    """What is kept whatever a policy says, and what was."""
    with database.reading() as session:
        rows = retention.holds(session)
    return schema.HoldPage(items=[schema.Hold.model_validate(row) for row in rows])


@router.post(
    "/holds", status_code=status.HTTP_201_CREATED, responses=error_answers(400, 409, 413, 422)
)
def add_hold(
    body: schema.HoldRequest, actor: Keeper, database: DatabasePart, ids: IdsPart, now: Now
) -> schema.Hold:
    """Keep records that would expire, until it is released."""
    held = Held(body.device_id, body.rollout_id, body.since)
    with database.transaction() as session:
        row = retention.add_hold(
            session, ids.new_id(), held, body.reason, actor=actor.audit_name, now=now
        )
    return schema.Hold.model_validate(row)


@router.post("/holds/{hold_id}/release", responses=error_answers(404, 409, 413, 422))
def release_hold(
    hold_id: str, body: schema.ReleaseRequest, actor: Keeper, database: DatabasePart, now: Now
) -> schema.Hold:
    """Let what a hold kept expire as all others do."""
    with database.transaction() as session:
        row = retention.release_hold(session, hold_id, body.reason, actor=actor.audit_name, now=now)
    return schema.Hold.model_validate(row)
