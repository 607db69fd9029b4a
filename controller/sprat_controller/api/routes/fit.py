"""What fits where, and why not: on a device, on a hardware class, on hardware to come."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sprat_proto import fit
from sqlmodel import Session

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import Scope
from sprat_controller.api import fit_schema as schema
from sprat_controller.api.answers import fast
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import DatabasePart
from sprat_controller.errors import RequestError
from sprat_controller.rollout import fit_policy, requests, serving
from sprat_controller.rollout.compatibility import from_rows, judging
from sprat_controller.rollout.compatibility.judging import HardwareClass, ReleaseVariants

router = APIRouter(prefix="/fit", tags=["fit"])
Reader = Annotated[Actor, Depends(require(Permission.READ_ROLLOUTS))]


@router.post("", response_model=schema.Fit, responses=error_answers(400, 404, 409, 413, 422))
def judge(body: schema.FitBody, actor: Reader, database: DatabasePart) -> Response:
    """Tell which variant of a release would be chosen, and why not the others."""
    terms = _terms(body)
    with database.reading() as session:
        judged, hardware = _hardware(session, body, actor.scope(Permission.READ_ROLLOUTS))
        release = from_rows.release(session, body.model, body.release)
        (cell,) = judging.matrix([hardware], [release], terms)
    answer = judging.cell_json(cell)
    return fast({**answer, "judged": judged, "hardware": judging.class_json(hardware)})


@router.post(
    "/matrix", response_model=schema.Matrix, responses=error_answers(400, 404, 409, 413, 422)
)
def matrix(body: schema.MatrixBody, actor: Reader, database: DatabasePart) -> Response:
    """Tell the same of every hardware class in the fleet and many models at once."""
    terms = _terms(body)
    with database.reading() as session:
        classes = from_rows.classes(session, scope=actor.scope(Permission.READ_ROLLOUTS))
        releases = [_release(session, name) for name in dict.fromkeys(body.models)]
        releases = releases or from_rows.newest(session)
        cells = judging.matrix(classes, releases, terms)
    return fast(
        {
            "classes": [judging.class_json(one) for one in classes],
            "releases": [judging.release_json(one) for one in releases],
            "cells": [judging.cell_json(cell) for cell in cells],
        }
    )


def _terms(body: schema.TermsBody) -> fit.Terms:
    served = serving.asked(body.slots, body.kv_type, pinned=False)
    policy = None if body.policy is None else fit_policy.asked(**body.policy.model_dump())
    requests.check_running(body.context, served, policy)
    return fit.Terms(body.context, served.slots or 1, served.kv_type, policy)


def _hardware(session: Session, body: schema.FitBody, scope: Scope) -> tuple[str, HardwareClass]:
    given = [one for one in (body.device, body.hardware_class, body.profile) if one is not None]
    if len(given) != 1:
        raise RequestError(
            "invalid_fit",
            "expected exactly one of device, hardware_class and profile, found"
            f" {len(given)} of them",
        )
    if body.device is not None:
        return "device", from_rows.device(session, body.device, scope)
    if body.hardware_class is not None:
        (found,) = from_rows.classes(session, body.hardware_class, scope)
        return "class", found
    return "profile", from_rows.declared(body.profile or {})


def _release(session: Session, name: str) -> ReleaseVariants:
    model, _, version = name.partition("@")
    return from_rows.release(session, model, version or None)
