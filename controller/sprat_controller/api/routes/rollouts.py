"""Rollouts: plan, create, approve, start, pause, resume, stop, watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response, status

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import rollout_schema as schema
from sprat_controller.api.answers import fast
from sprat_controller.api.auth import demand, require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AllParts, DatabasePart, RolloutsPart
from sprat_controller.api.routes.paging import Limit
from sprat_controller.api.strategy_schema import Strategy as StrategyBody
from sprat_controller.api.strategy_schema import body_of
from sprat_controller.fleet import inventory
from sprat_controller.rollout import fetching, fit_policy, serving, strategy_said
from sprat_controller.rollout.plan import Planned, verdict_json
from sprat_controller.rollout.plan_store import Kept, Listed
from sprat_controller.rollout.requests import (
    ApprovalView,
    GivenApproval,
    PlanRequest,
    RolloutEdit,
    RolloutRequest,
    RolloutView,
    Target,
    target_json,
)
from sprat_controller.rollout.service import RolloutService
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy
from sprat_controller.store.session import Database

router = APIRouter(prefix="/rollouts", tags=["rollouts"])
Reader = Annotated[Actor, Depends(require(Permission.READ_ROLLOUTS))]
Changer = Annotated[Actor, Depends(require(Permission.ROLL_OUT))]
Approver = Annotated[Actor, Depends(require(Permission.APPROVE))]
Breaker = Annotated[Actor, Depends(require(Permission.BREAK_GLASS))]
Beginning = Annotated[
    str, Query(max_length=200, description="Only those whose names begin with this")
]
IdBeginning = Annotated[
    str, Query(alias="id", max_length=64, description="Only those whose ids begin with this")
]
LookedAt = Annotated[schema.LookedAt | None, Body()]


def _seen(actor: Reader, rollouts: RolloutsPart) -> RolloutService:
    return rollouts.within(actor.scope(Permission.READ_ROLLOUTS))


def _changed(actor: Changer, rollouts: RolloutsPart) -> RolloutService:
    return rollouts.within(actor.scope(Permission.ROLL_OUT))


def _approved(actor: Approver, rollouts: RolloutsPart) -> RolloutService:
    return rollouts.within(actor.scope(Permission.APPROVE))


def _broken(actor: Breaker, rollouts: RolloutsPart) -> RolloutService:
    return rollouts.within(actor.scope(Permission.BREAK_GLASS))


# What there is of rollouts for whoever asks: nothing here works with more than that.
Seen = Annotated[RolloutService, Depends(_seen)]
Changed = Annotated[RolloutService, Depends(_changed)]
Approved = Annotated[RolloutService, Depends(_approved)]
Broken = Annotated[RolloutService, Depends(_broken)]


@router.post("/plan", response_model=schema.Plan, responses=error_answers(400, 404, 413, 422))
def plan(body: schema.PreviewBody, rollouts: Seen, database: DatabasePart) -> Response:
    """Tell who would get which variant and why, and what it costs; nothing is changed."""
    wanted, strategy = _plan_request(body), _strategy(body.strategy)
    lines = rollouts.plan(wanted, strategy)
    return fast({"devices": _lines(database, lines, wanted, strategy, body.bandwidth)})


@router.post(
    "/plans",
    status_code=status.HTTP_201_CREATED,
    response_model=schema.SavedPlan,
    responses=error_answers(400, 404, 413, 422),
)
def save_plan(
    body: schema.PreviewBody, actor: Changer, rollouts: Changed, database: DatabasePart
) -> Response:
    """Tell the same and keep it, to be carried out exactly so or not at all."""
    wanted, strategy = _plan_request(body), _strategy(body.strategy)
    kept, lines = rollouts.save_plan(wanted, strategy, actor.audit_name)
    answer = {
        "id": kept.id,
        "expires_at": kept.expires_at.isoformat(),
        "devices": _lines(database, lines, wanted, strategy, body.bandwidth),
    }
    return fast(answer, status.HTTP_201_CREATED)


@router.get("/plans")
def list_plans(rollouts: Seen, limit: Limit = 1000) -> schema.KeptPlanPage:
    """The newest plans that were saved and may still be carried out, newest first."""
    items = [schema.KeptPlan(**_kept(one)) for one in rollouts.saved_plans(limit)]
    return schema.KeptPlanPage(items=items)


@router.get(
    "/plans/{plan_id}", response_model=schema.KeptPlanWithLines, responses=error_answers(404)
)
def show_plan(plan_id: str, rollouts: Seen) -> Response:
    """A saved plan, and what it says of each device."""
    kept = rollouts.saved_plan(plan_id)
    devices = [
        {
            "device_id": line.device,
            "hardware_class": line.hardware or None,
            "current": line.runs or None,
            "action": line.action,
            "variant": line.variant or None,
            "digest": line.digest or None,
            "code": line.code or None,
        }
        for line in kept.lines
    ]
    return fast({**_kept(kept), "devices": devices})


@router.post(
    "/plans/{plan_id}/apply",
    status_code=status.HTTP_201_CREATED,
    responses=error_answers(400, 404, 409, 413, 422),
)
def apply_plan(
    plan_id: str,
    body: schema.PlannedBody,
    actor: Changer,
    rollouts: Changed,
    *,
    request: Request,
    parts: AllParts,
) -> schema.Rollout:
    """Create the rollout of a saved plan; refused if it would be another one by now."""
    kept = rollouts.saved_plan(plan_id)
    if kept.strategy.override:
        rollouts = _overriding(request, parts, actor, rollouts)
    wanted = RolloutRequest(
        plan=kept.plan, name=body.name, start_at=body.start_at, strategy=kept.strategy
    )
    return _answer(rollouts.create(wanted, actor.audit_name, planned=kept))


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=error_answers(400, 404, 409, 413, 422),
)
def create(
    body: schema.RolloutBody,
    actor: Changer,
    rollouts: Changed,
    *,
    request: Request,
    parts: AllParts,
) -> schema.Rollout:
    """Create a rollout: READY; with a time to start at SCHEDULED, or first to be approved."""
    strategy = _strategy(body.strategy)
    if strategy.override:
        rollouts = _overriding(request, parts, actor, rollouts)
    wanted = RolloutRequest(
        plan=_plan_request(body),
        name=body.name,
        start_at=body.start_at,
        max_in_progress=body.max_in_progress,
        execution_timeout_s=body.execution_timeout_s,
        strategy=strategy,
    )
    return _answer(rollouts.create(wanted, actor.audit_name))


@router.get("")
def list_rollouts(
    rollouts: Seen,
    limit: Limit = 1000,
    name: Beginning = "",
    id_beginning: IdBeginning = "",
) -> schema.RolloutPage:
    """The newest rollouts, newest first."""
    found = rollouts.list(limit, name, id_beginning=id_beginning)
    return schema.RolloutPage(items=[_answer(view) for view in found])


@router.get("/{rollout_id}", responses=error_answers(404))
def show(rollout_id: str, rollouts: Seen) -> schema.Rollout:
    """A rollout, and how many executions are in each state."""
    return _answer(rollouts.get(rollout_id))


@router.get(
    "/{rollout_id}/executions",
    response_model=schema.ExecutionPage,
    responses=error_answers(404),
)
def executions(rollout_id: str, rollouts: Seen, database: DatabasePart) -> Response:
    """Each device's run."""
    views = rollouts.executions(rollout_id)
    with database.reading() as session:
        simulated = inventory.simulated(session, rollout_id)
    items = [asdict(view) | {"simulated": view.device_id in simulated} for view in views]
    return fast({"items": items, "next": None})


@router.post("/{rollout_id}/start", responses=error_answers(400, 404, 409, 413, 422))
def start(
    rollout_id: str, actor: Changer, rollouts: Changed, body: LookedAt = None
) -> schema.Rollout:
    """Start it now, whatever time it was scheduled for; or once it is approved, if it must be."""
    return _answer(rollouts.start(rollout_id, actor.audit_name, expected_revision=_expected(body)))


@router.patch("/{rollout_id}", responses=error_answers(400, 404, 409, 413, 422))
def edit(
    rollout_id: str,
    body: schema.EditBody,
    actor: Changer,
    rollouts: Changed,
    *,
    request: Request,
    parts: AllParts,
) -> schema.Rollout:
    """Change what has not started; what was approved of it must be approved anew."""
    if body.strategy is not None and body.strategy.override:
        rollouts = _overriding(request, parts, actor, rollouts)
    wanted = RolloutEdit(
        name=body.name,
        max_in_progress=body.max_in_progress,
        execution_timeout_s=body.execution_timeout_s,
        start_at=body.start_at,
        strategy=None if body.strategy is None else body_of(body.strategy),
    )
    expected = body.expected_revision
    return _answer(rollouts.edit(rollout_id, wanted, actor.audit_name, expected_revision=expected))


@router.get("/{rollout_id}/approval", responses=error_answers(404, 409))
def approval(rollout_id: str, rollouts: Seen) -> schema.Approval:
    """What is to be approved, who has, and what is missing."""
    return _approval(rollouts.approval(rollout_id))


@router.post("/{rollout_id}/approve", responses=error_answers(400, 404, 409, 413, 422))
def approve(
    rollout_id: str, body: schema.ApprovalBody, actor: Approver, rollouts: Approved
) -> schema.Approval:
    """Approve it; when that is enough, it starts or waits for its time."""
    given = GivenApproval(body.spec_sha256, body.envelope)
    return _approval(
        rollouts.approve(
            rollout_id, given, actor.audit_name, expected_revision=body.expected_revision
        )
    )


@router.post("/{rollout_id}/deny", responses=error_answers(400, 404, 409, 413, 422))
def deny(
    rollout_id: str, body: schema.DenialBody, actor: Approver, rollouts: Approved
) -> schema.Rollout:
    """End what waits for approvals."""
    return _answer(
        rollouts.deny(
            rollout_id, body.reason, actor.audit_name, expected_revision=body.expected_revision
        )
    )


@router.post("/{rollout_id}/override-approval", responses=error_answers(400, 404, 409, 413, 422))
def override_approval(
    rollout_id: str, body: schema.OverrideBody, actor: Breaker, rollouts: Broken
) -> schema.Rollout:
    """Let it go without the approvals that it lacks, but for what devices enforce themselves."""
    expected = body.expected_revision
    return _answer(
        rollouts.override_approval(
            rollout_id, body.reason, actor.audit_name, expected_revision=expected
        )
    )


@router.post("/{rollout_id}/review-override", responses=error_answers(400, 404, 409, 413, 422))
def review_override(
    rollout_id: str, body: schema.ReviewBody, actor: Approver, rollouts: Approved
) -> schema.Rollout:
    """Accept or reject that somebody else overrode its approvals; it goes on as it is."""
    expected = body.expected_revision
    return _answer(
        rollouts.review_override(
            rollout_id, body.verdict, body.note, actor.audit_name, expected_revision=expected
        )
    )


@router.post("/{rollout_id}/pause", responses=error_answers(400, 404, 409, 413, 422))
def pause(
    rollout_id: str, actor: Changer, rollouts: Changed, body: LookedAt = None
) -> schema.Rollout:
    """Give no further device work; those under way go on."""
    return _answer(rollouts.pause(rollout_id, actor.audit_name, expected_revision=_expected(body)))


@router.post("/{rollout_id}/resume", responses=error_answers(400, 404, 409, 413, 422))
def resume(
    rollout_id: str, actor: Changer, rollouts: Changed, body: LookedAt = None
) -> schema.Rollout:
    """Go on after a pause; after an abort, only what fails from now on counts for another."""
    return _answer(rollouts.resume(rollout_id, actor.audit_name, expected_revision=_expected(body)))


@router.post("/{rollout_id}/stop", responses=error_answers(400, 404, 409, 413, 422))
def stop(
    rollout_id: str, actor: Changer, rollouts: Changed, body: LookedAt = None
) -> schema.Rollout:
    """Cancel what is unfinished; devices that are done keep what they have."""
    return _answer(rollouts.stop(rollout_id, actor.audit_name, expected_revision=_expected(body)))


@router.post("/{rollout_id}/promote", responses=error_answers(400, 404, 409, 413, 422))
def promote(
    rollout_id: str, body: schema.PromotionBody, actor: Changer, rollouts: Changed
) -> schema.Rollout:
    """Let the group after this one start, whatever this one waits for."""
    expected = _expected(body)
    return _answer(
        rollouts.promote(rollout_id, body.group, actor.audit_name, expected_revision=expected)
    )


@router.post("/{rollout_id}/retry-failed", responses=error_answers(400, 404, 409, 413, 422))
def retry_failed(
    rollout_id: str, actor: Changer, rollouts: Changed, body: LookedAt = None
) -> schema.Rollout:
    """Have all that failed, timed out or went back by itself tried again."""
    return _answer(
        rollouts.retry_failed(rollout_id, actor.audit_name, expected_revision=_expected(body))
    )


@router.post("/{rollout_id}/roll-back", responses=error_answers(400, 404, 409, 413, 422))
def roll_back(
    rollout_id: str, actor: Changer, rollouts: Changed, body: LookedAt = None
) -> schema.Rollout:
    """Take back all that it brought: devices return to what they ran before."""
    return _answer(
        rollouts.roll_back(rollout_id, actor.audit_name, expected_revision=_expected(body))
    )


def _overriding(
    request: Request, parts: AllParts, actor: Actor, rollouts: RolloutService
) -> RolloutService:
    """Return the rollouts that the actor may have override windows, budgets and pace."""
    demand(request, parts, actor, Permission.OVERRIDE)
    both = actor.scope(Permission.ROLL_OUT).narrowed(actor.scope(Permission.OVERRIDE))
    return rollouts.within(both)


def _expected(body: schema.LookedAt | None) -> int | None:
    return None if body is None else body.expected_revision


def _plan_request(body: schema.PlanBody) -> PlanRequest:
    inventory.check_labels(body.labels)
    target = Target(body.labels, tuple(body.devices), body.filter)
    terms = serving.asked(body.slots, body.kv_type, pinned=body.pinned)
    policy = None if body.policy is None else fit_policy.asked(**body.policy.model_dump())
    return PlanRequest(body.model, body.release, body.alias, target, body.context, terms, policy)


def _lines(
    database: Database,
    lines: Sequence[Planned],
    wanted: PlanRequest,
    strategy: Strategy,
    bandwidth: int,
) -> list[dict[str, object]]:
    with database.reading() as session:
        costs = fetching.of_rollout(session, lines, wanted, strategy, bandwidth)
    return [_line(line, costs[line.device_id]) for line in lines]


def _line(line: Planned, cost: fetching.Cost) -> dict[str, object]:
    return {
        "device_id": line.device_id,
        "simulated": line.simulated,
        "hardware_class": line.hardware_class,
        "action": line.action,
        "variant": line.variant,
        "digest": line.digest,
        "current": line.current,
        "reason": line.reason.as_json() if line.reason else None,
        "fetch_bytes": cost.fetch_bytes,
        "expected_s": cost.expected_s,
        "expected_end_s": cost.end_s,
        "verdicts": [verdict_json(verdict) for verdict in line.verdicts],
    }


def _strategy(body: StrategyBody | None) -> Strategy:
    return ALL_AT_ONCE if body is None else strategy_said.asked(body_of(body))


def _kept(plan: Kept | Listed) -> dict[str, Any]:
    return {
        "id": plan.id,
        "model": plan.plan.model,
        "release": plan.plan.release,
        "alias": plan.plan.alias,
        "target": target_json(plan.plan.target),
        "context": plan.plan.context,
        "strategy": strategy_said.said(plan.strategy),
        "made_at": plan.made_at,
        "made_by": plan.made_by,
        "expires_at": plan.expires_at,
    }


def _answer(view: RolloutView) -> schema.Rollout:
    said = {"strategy": strategy_said.said(view.strategy)}
    return schema.Rollout.model_validate(asdict(view) | said)


def _approval(view: ApprovalView) -> schema.Approval:
    return schema.Approval.model_validate(asdict(view))
