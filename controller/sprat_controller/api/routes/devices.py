"""Devices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response, status
from sprat_proto.states import DeviceState

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import rollout_schema, schema
from sprat_controller.api.answers import fast
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AllParts, DatabasePart, Now
from sprat_controller.api.routes.paging import AfterName, Limit
from sprat_controller.fleet import certificates, inventory
from sprat_controller.fleet.filters.tokens import MAX_LENGTH as MAX_FILTER
from sprat_controller.rollout import assign
from sprat_controller.rollout.why import from_rows

router = APIRouter(prefix="/devices", tags=["devices"])
Reader = Annotated[Actor, Depends(require(Permission.READ_FLEET))]
Changer = Annotated[Actor, Depends(require(Permission.CHANGE_FLEET))]
Labels = Annotated[list[str], Query(max_length=64, description="KEY=VALUE, repeatable")]
Filter = Annotated[
    str, Query(max_length=MAX_FILTER, description="Only devices that match it, as rollouts have it")
]


@router.get("", response_model=schema.DevicePage, responses=error_answers(400, 422))
def list_devices(
    actor: Reader,
    database: DatabasePart,
    *,
    limit: Limit = 100,
    after: AfterName = "",
    state: DeviceState | None = None,
    label: Labels = [],  # noqa: B006 - FastAPI copies it
    filter: Filter = "",  # noqa: A002 - the name of the parameter in the query
) -> Response:
    """Devices by name, those that were removed left out."""
    scope = actor.scope(Permission.READ_FLEET)
    wanted = inventory.Wanted(state, inventory.parse_labels(label), filter, scope)
    with database.reading() as session:
        items = inventory.page(session, wanted, after=after, limit=limit)
    return fast({"items": items, "next": items[-1]["id"] if len(items) == limit else None})


@router.get("/{device_id}", responses=error_answers(404))
def show_device(device_id: str, actor: Reader, database: DatabasePart) -> schema.DeviceDetail:
    """All that is known of a device, also of one that was removed."""
    with database.reading() as session:
        shown = inventory.show(session, device_id, actor.scope(Permission.READ_FLEET))
        return schema.DeviceDetail.model_validate(shown)


@router.get("/{device_id}/why", responses=error_answers(404))
def why(device_id: str, actor: Reader, database: DatabasePart, now: Now) -> rollout_schema.WhyPage:
    """Why it stands where it stands under each alias, and what is next: always an answer."""
    with database.reading() as session:
        inventory.find(session, device_id, actor.scope(Permission.READ_FLEET))
        found = from_rows.answers(session, device_id, now)
    return rollout_schema.WhyPage(items=[rollout_schema.Why.model_validate(one) for one in found])


@router.patch("/{device_id}", responses=error_answers(400, 404, 413, 422))
def change_device(
    device_id: str, body: schema.DeviceChange, actor: Changer, database: DatabasePart, now: Now
) -> schema.DeviceDetail:
    """Replace a device's labels."""
    with database.transaction() as session:
        scope, by = actor.scope(Permission.CHANGE_FLEET), actor.audit_name
        inventory.relabel(session, device_id, body.labels, actor=by, now=now, scope=scope)
        session.flush()
        return schema.DeviceDetail.model_validate(inventory.show(session, device_id))


@router.post(
    "/{device_id}/release-quarantine", responses=error_answers(400, 404, 409, 413, 422, 503)
)
def release_device(
    device_id: str, body: schema.QuarantineRelease, actor: Changer, parts: AllParts
) -> schema.DeviceDetail:
    """End a device's quarantine: it gets plans again."""
    now = parts.clock()
    with parts.database.transaction() as session:
        inventory.release(
            session,
            device_id,
            accept_older=body.accept_older,
            actor=actor.audit_name,
            now=now,
            scope=actor.scope(Permission.CHANGE_FLEET),
        )
        session.flush()
        # The device has an older plan, so its next heartbeat is answered with this one.
        assign.resume(session, parts.signer, device_id, now)
        shown = schema.DeviceDetail.model_validate(inventory.show(session, device_id))
    parts.wake()
    return shown


@router.delete(
    "/{device_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=error_answers(404, 503),
)
def remove_device(device_id: str, actor: Changer, parts: AllParts) -> None:
    """Revoke a device: it is never spoken to again; asked again, the signer is told again."""
    now = parts.clock()
    with parts.database.transaction() as session:
        scope, by = actor.scope(Permission.CHANGE_FLEET), actor.audit_name
        inventory.remove(session, device_id, actor=by, now=now, scope=scope)
        serials = certificates.serials_to_revoke(session, device_id, now)
    try:
        certificates.revoke(parts.signer, device_id, serials)
    finally:
        # Once the signer knows: the broker is given its list before it cuts the device off.
        parts.end_session(device_id, "the device was removed")
        parts.wake()
