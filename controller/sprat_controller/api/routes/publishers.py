"""Publishers whose models the fleet may run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status

from sprat_controller.access.policy import Actor, Permission
from sprat_controller.api import schema
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import DatabasePart, Now
from sprat_controller.registry import publishers
from sprat_controller.store import queries

router = APIRouter(prefix="/publishers", tags=["publishers"])
Reader = Annotated[Actor, Depends(require(Permission.READ_MODELS))]
Manager = Annotated[Actor, Depends(require(Permission.MANAGE_PUBLISHERS))]


@router.get("")
def list_publishers(_: Reader, database: DatabasePart) -> schema.PublisherPage:
    """All publishers."""
    with database.reading() as session:
        rows = queries.publishers(session)
    return schema.PublisherPage(items=[schema.Publisher.model_validate(row) for row in rows])


@router.post("", status_code=status.HTTP_201_CREATED, responses=error_answers(400, 409, 413, 422))
def add_publisher(
    body: schema.PublisherRequest, actor: Manager, database: DatabasePart, now: Now
) -> schema.Publisher:
    """Make a publisher known; devices learn of it when they enrol."""
    with database.transaction() as session:
        row = publishers.add(
            session,
            name=body.name,
            public_pem=body.public_pem,
            actor=actor.audit_name,
            now=now,
        )
    return schema.Publisher.model_validate(row)
