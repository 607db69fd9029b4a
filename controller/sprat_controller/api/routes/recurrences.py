"""Recurring rollouts: add, look, edit, pause, resume, remove."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, status
from msgspec import UNSET, UnsetType
from sprat_proto.policy import FitPolicy

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import recurrence_schema as schema
from sprat_controller.api import rollout_schema, strategy_schema
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import RecurrencesPart
from sprat_controller.api.routes.paging import Limit
from sprat_controller.fleet import inventory
from sprat_controller.rollout import fit_policy, serving, strategy_said
from sprat_controller.rollout.recurring.recurrences import (
    RecurrenceEdit,
    RecurrenceRequest,
    Recurrences,
    RecurrenceView,
)
from sprat_controller.rollout.requests import Target

router = APIRouter(prefix="/recurring-rollouts", tags=["recurring rollouts"])
Reader = Annotated[Actor, Depends(require(Permission.READ_ROLLOUTS))]
Changer = Annotated[Actor, Depends(require(Permission.ROLL_OUT))]
LookedAt = Annotated[rollout_schema.LookedAt | None, Body()]
Expected = Annotated[
    int | None,
    Query(ge=0, le=rollout_schema.MAX_REVISION, description="Refused if it is another one by now"),
]


def _seen(actor: Reader, recurrences: RecurrencesPart) -> Recurrences:
    return recurrences.within(actor.scope(Permission.READ_ROLLOUTS))


def _changed(actor: Changer, recurrences: RecurrencesPart) -> Recurrences:
    return recurrences.within(actor.scope(Permission.ROLL_OUT))


# What there is of them for whoever asks: nothing here works with more than that.
Seen = Annotated[Recurrences, Depends(_seen)]
Changed = Annotated[Recurrences, Depends(_changed)]


@router.post(
    "", status_code=status.HTTP_201_CREATED, responses=error_answers(400, 404, 409, 413, 422)
)
def add(body: schema.RecurrenceBody, actor: Changer, recurrences: Changed) -> schema.Recurrence:
    """Add one; it is due at the next moment of its rule."""
    inventory.check_labels(body.labels)
    request = RecurrenceRequest(
        model=body.model,
        channel=body.channel,
        alias=body.alias,
        cron=body.cron,
        zone=body.zone,
        name=body.name,
        target=Target(body.labels, tuple(body.devices), body.filter),
        context=body.context,
        terms=serving.asked(body.slots, body.kv_type, pinned=body.pinned),
        policy=None if body.policy is None else fit_policy.asked(**body.policy.model_dump()),
        strategy=strategy_said.asked(strategy_schema.body_of(body.strategy)),
    )
    return _answer(recurrences.add(request, actor.audit_name))


@router.get("")
def list_recurrences(recurrences: Seen) -> schema.RecurrencePage:
    """All of them, oldest first."""
    return schema.RecurrencePage(items=[_answer(view) for view in recurrences.list()])


@router.get("/{recurrence_id}", responses=error_answers(404))
def show_recurrence(recurrence_id: str, recurrences: Seen) -> schema.Recurrence:
    """When it is due next, and what came of its last moment."""
    return _answer(recurrences.get(recurrence_id))


@router.get("/{recurrence_id}/occurrences", responses=error_answers(404))
def list_occurrences(
    recurrence_id: str, recurrences: Seen, limit: Limit = 1000
) -> schema.OccurrencePage:
    """What came of its newest moments, newest first."""
    views = recurrences.occurrences(recurrence_id, limit)
    return schema.OccurrencePage.model_validate({"items": [asdict(view) for view in views]})


@router.patch("/{recurrence_id}", responses=error_answers(400, 404, 409, 413, 422))
def edit_recurrence(
    recurrence_id: str,
    body: schema.RecurrenceEditBody,
    actor: Changer,
    recurrences: Changed,
) -> schema.Recurrence:
    """Change what it rolls out from its next moment on; what it rolled out before goes on."""
    if body.labels is not None:
        inventory.check_labels(body.labels)
    said = body.model_dump(exclude={"expected_revision", "devices", "policy", "strategy"})
    change = RecurrenceEdit(
        **said,
        devices=None if body.devices is None else tuple(body.devices),
        policy=_policy(body),
        strategy=None if body.strategy is None else strategy_schema.body_of(body.strategy),
    )
    expected = body.expected_revision
    return _answer(
        recurrences.edit(recurrence_id, change, actor.audit_name, expected_revision=expected)
    )


@router.post("/{recurrence_id}/pause", responses=error_answers(400, 404, 409, 413, 422))
def pause_recurrence(
    recurrence_id: str, actor: Changer, recurrences: Changed, body: LookedAt = None
) -> schema.Recurrence:
    """Have nothing be due until it is resumed; rollouts under way go on."""
    expected = None if body is None else body.expected_revision
    return _answer(recurrences.pause(recurrence_id, actor.audit_name, expected_revision=expected))


@router.post("/{recurrence_id}/resume", responses=error_answers(400, 404, 409, 413, 422))
def resume_recurrence(
    recurrence_id: str, actor: Changer, recurrences: Changed, body: LookedAt = None
) -> schema.Recurrence:
    """Have it be due at the next moment of its rule; what it left out is not made up for."""
    expected = None if body is None else body.expected_revision
    return _answer(recurrences.resume(recurrence_id, actor.audit_name, expected_revision=expected))


@router.delete(
    "/{recurrence_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=error_answers(404, 409, 422),
)
def remove_recurrence(
    recurrence_id: str,
    actor: Changer,
    recurrences: Changed,
    expected_revision: Expected = None,
) -> None:
    """Forget it; what it rolled out goes on."""
    recurrences.remove(recurrence_id, actor.audit_name, expected_revision=expected_revision)


def _policy(body: schema.RecurrenceEditBody) -> FitPolicy | UnsetType | None:
    """Return the policy that was said; null is the release's own, and left out as it is."""
    if "policy" not in body.model_fields_set:
        return UNSET
    return None if body.policy is None else fit_policy.asked(**body.policy.model_dump())


def _answer(view: RecurrenceView) -> schema.Recurrence:
    said = {**asdict(view), "strategy": strategy_said.said(view.strategy)}
    return schema.Recurrence.model_validate(said)
