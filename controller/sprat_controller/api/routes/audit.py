"""The audit logs: the controller's own, and each device's as it arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import schema
from sprat_controller.api.answers import fast
from sprat_controller.api.auth import require, require_everywhere
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import DatabasePart
from sprat_controller.api.routes.paging import AfterPosition, Limit
from sprat_controller.audit import tree, verify
from sprat_controller.audit.export import UNREADABLE
from sprat_controller.fleet import inventory
from sprat_controller.store import queries
from sprat_controller.store.tables import AuditRecord, DeviceAuditRecord

router = APIRouter(tags=["audit"])
Auditor = Annotated[Actor, Depends(require(Permission.READ_AUDIT))]
WholeAuditor = Annotated[Actor, Depends(require_everywhere(Permission.READ_AUDIT))]
Filter = Annotated[str | None, Query(max_length=300)]


def wanted_of(
    auditor: Auditor,
    *,
    tag: Filter = None,
    actor: Filter = None,
    subject: Filter = None,
    device: Filter = None,
    rollout: Filter = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> queries.AuditFilter:
    """Return which records are asked for, of those that the asker may see."""
    scope = auditor.scope(Permission.READ_AUDIT)
    return queries.AuditFilter(tag, actor, subject, scope, device, rollout, since, until)


Wanted = Annotated[queries.AuditFilter, Depends(wanted_of)]


@router.get("/audit", response_model=schema.AuditPage, responses=error_answers(409, 422))
def list_audit(
    database: DatabasePart,
    wanted: Wanted,
    *,
    after: AfterPosition = 0,
    limit: Limit = 100,
) -> Response:
    """The controller's log, oldest first: what is about devices in one's scope."""
    with database.reading() as session:
        return _page(queries.audit_page(session, wanted, after=after, limit=limit), limit)


@router.get("/audit/verify", response_model_exclude_defaults=True)
def verify_audit(_: WholeAuditor, database: DatabasePart) -> schema.ChainAnswer:
    """Check the controller's log from its first record to its last."""
    with database.reading() as session:
        return schema.ChainAnswer.model_validate(verify.verify_controller(session))


@router.get(
    "/devices/{device_id}/audit",
    response_model=schema.AuditPage,
    responses=error_answers(404, 409, 422),
)
def list_device_audit(
    device_id: str,
    auditor: Auditor,
    database: DatabasePart,
    *,
    after: AfterPosition = 0,
    limit: Limit = 100,
) -> Response:
    """A device's own log as far as it has arrived, oldest first."""
    with database.reading() as session:
        inventory.find(session, device_id, auditor.scope(Permission.READ_AUDIT))
        return _page(queries.device_audit_page(session, device_id, after=after, limit=limit), limit)


@router.get(
    "/devices/{device_id}/audit/verify",
    responses=error_answers(404),
    response_model_exclude_defaults=True,
)
def verify_device_audit(
    device_id: str, auditor: Auditor, database: DatabasePart
) -> schema.ChainAnswer:
    """Check a device's log from its first record to the last that arrived."""
    with database.reading() as session:
        inventory.find(session, device_id, auditor.scope(Permission.READ_AUDIT))
        return schema.ChainAnswer.model_validate(verify.verify_device(session, device_id))


def _page(rows: Sequence[AuditRecord | DeviceAuditRecord], limit: int) -> Response:
    items = [
        {"seq": row.seq, "hash": row.hash, "body": _body(row) if row.body else None}
        | ({} if row.body else {"expired": True})
        for row in rows
    ]
    return fast({"items": items, "next": rows[-1].seq if len(rows) == limit else None})


def _body(row: AuditRecord | DeviceAuditRecord) -> object:
    try:
        return msgspec.json.decode(row.body)
    except UNREADABLE as error:
        raise tree.damaged(f"record {row.seq} is no JSON") from error
