"""Publishers whose models the fleet may run; they are added by publishing new targets (`trust`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import schema
from sprat_controller.api.auth import require
from sprat_controller.api.parts import DatabasePart
from sprat_controller.store import queries

router = APIRouter(prefix="/publishers", tags=["publishers"])
Reader = Annotated[Actor, Depends(require(Permission.READ_MODELS))]


@router.get("")
def list_publishers(_: Reader, database: DatabasePart) -> schema.PublisherPage:
    """All publishers."""
    with database.reading() as session:
        rows = queries.publishers(session)
    return schema.PublisherPage(items=[schema.Publisher.model_validate(row) for row in rows])
