"""Making a rollout: its plan, its own row, those of its groups and of its executions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from sprat_proto.approval import ApproverPolicy
from sprat_proto.audit_events import Tag
from sprat_proto.states import GroupState, RolloutState
from sqlmodel import Session

from sprat_controller.audit import log
from sprat_controller.errors import RequestError
from sprat_controller.rollout import (
    approvals,
    fit_policy,
    four_eyes,
    frozen_strategy,
    saved_plans,
    serving,
    snapshot,
    targets,
)
from sprat_controller.rollout.approver_policy import PolicySource
from sprat_controller.rollout.grouping import Member, Placed, split
from sprat_controller.rollout.phases import ROLLOUT, RolloutEvent, apply
from sprat_controller.rollout.plan import Action, Planned
from sprat_controller.rollout.plan_store import Kept
from sprat_controller.rollout.records import By, strategy_of
from sprat_controller.rollout.requests import PlanRequest, RolloutRequest, Target, target_json
from sprat_controller.rollout.snapshot import NewId, Snapshot
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import Rollout, RolloutGroup


def plan(
    session: Session, request: PlanRequest, strategy: Strategy, policy: PolicySource
) -> Sequence[Planned]:
    """Return who would get which variant and why; nothing is changed.

    Raises:
        NotFoundError: No such model, release or device.
    """
    enforcing = four_eyes.enforcing(policy(session))
    return snapshot.plan(session, request, strategy, enforcing)


def create(
    session: Session,
    request: RolloutRequest,
    actor: str,
    planned: Kept | None = None,
    *,
    policy: PolicySource,
    new_id: NewId,
    now: datetime,
) -> Rollout:
    """Plan and keep a rollout: READY; with a time to start at, SCHEDULED or waiting for approval.

    Args:
        session: A transaction.
        request: What and to whom; it was checked.
        actor: Who, as it stands in the audit log.
        planned: What it must be by now, too; None: whatever it is.
        policy: Says who must approve what.
        new_id: Makes ids of rollouts and executions.
        now: The caller's clock, timezone-aware.

    Raises:
        RequestError: Nobody is in its target.
        NotFoundError: No such model, release or device.
        ConflictError: It would be something else by now than was planned.
    """
    strategy = _strategy(request)
    lines = plan(session, request.plan, strategy, policy)
    if planned is not None:
        saved_plans.check_fresh(planned.id, planned.lines, saved_plans.rests_on(lines))
    if not lines:
        raise RequestError(
            "no_devices", f"expected at least one device {_described(request.plan.target)}"
        )
    members = targets.grouped(session, request.plan.target, strategy)
    placed = _placed(members, strategy, f"{request.plan.model}@{request.plan.release}")
    rollout = _keep(session, request, strategy, actor, rollout_id=new_id(), now=now)
    keep_groups(session, rollout, strategy, Counter(place.group for place in placed))
    rows = Snapshot(lines, members, placed)
    snapshot.keep(session, rollout, rows, rollout.created_at, new_id)
    _record_creation(session, rollout, lines)
    if request.start_at is not None:
        by = By(Tag.ROLLOUT_SUBMITTED, actor, now)
        schedule(session, rollout, policy(session), by)
    return rollout


def keep_groups(
    session: Session, rollout: Rollout, strategy: Strategy, held: Mapping[int, int], first: int = 0
) -> None:
    """Keep the rows of a strategy's groups from `first` on, each with how many devices it holds."""
    for number, group in enumerate(strategy.groups[first:], first):
        row = RolloutGroup(
            rollout_id=rollout.id,
            number=number,
            name=group.name or str(number),
            state=GroupState.SCHEDULED.value,
            devices=held.get(number, 0),
        )
        session.add(row)


def record_override(session: Session, rollout: Rollout, by: By) -> None:
    """Write down that it is an emergency, if it is, and whose."""
    override = strategy_of(rollout).override
    if override:
        log.append(
            session,
            Tag.ROLLOUT_OVERRIDDEN,
            at=by.now,
            actor=by.actor,
            subject=f"rollout/{rollout.id}",
            reason="override",
            detail={"reason": override, "skips": ["windows", "budgets", "pace"]},
        )


def schedule(session: Session, rollout: Rollout, policy: ApproverPolicy, by: By) -> None:
    """Have a READY rollout wait for its time, after its approval if it needs one."""
    if not approvals.is_approved(session, rollout, policy):
        approvals.submit(session, rollout, policy, by)
        return
    subject = f"rollout {rollout.id}"
    state, event = RolloutState(rollout.state), RolloutEvent.SCHEDULE
    rollout.state = apply(ROLLOUT, state, event, subject, "rollout_state").value
    rollout.abort = None  # what held it back before its new time
    session.add(rollout)


def _keep(
    session: Session,
    request: RolloutRequest,
    strategy: Strategy,
    actor: str,
    *,
    rollout_id: str,
    now: datetime,
) -> Rollout:
    what = request.plan
    subject = f"rollout {rollout_id}"
    state = apply(ROLLOUT, RolloutState.CREATING, RolloutEvent.PLANNED, subject, "rollout_state")
    rollout = Rollout(
        id=rollout_id,
        name=request.name or f"{what.model}@{what.release}",
        model=what.model,
        release=what.release,
        alias=what.alias,
        target=target_json(what.target),
        context=what.context,
        serving=serving.to_json(what.terms),
        policy=fit_policy.to_json(what.policy),
        state=state.value,
        due_at=request.start_at,
        start_at=request.start_at,
        max_in_progress=strategy.pace.max_in_progress,
        execution_timeout_s=strategy.deadlines.execution_s,
        strategy=frozen_strategy.to_json(strategy),
        priority=strategy.priority,
        created_at=now,
        created_by=actor,
    )
    session.add(rollout)
    session.flush()
    return rollout


def _strategy(request: RolloutRequest) -> Strategy:
    """Return the strategy with the pace and deadline that are asked beside it."""
    return frozen_strategy.paced(
        request.strategy,
        max_in_progress=request.max_in_progress or None,
        execution_s=request.execution_timeout_s,
    )


def _placed(members: Sequence[Member], strategy: Strategy, salt: str) -> Sequence[Placed]:
    """Return where each device stands; where all are one group, in order of name."""
    if len(strategy.groups) > 1:
        return split(members, strategy, salt)
    return [Placed(member.device_id, 0, position) for position, member in enumerate(members)]


def _record_creation(session: Session, rollout: Rollout, lines: Sequence[Planned]) -> None:
    actions = [line.action for line in lines]
    log.append(
        session,
        Tag.ROLLOUT_CREATED,
        at=rollout.created_at,
        actor=rollout.created_by,
        subject=f"rollout/{rollout.id}",
        after=rollout.state,
        detail={
            "name": rollout.name,
            "release": f"{rollout.model}@{rollout.release}",
            "alias": rollout.alias,
            "target": rollout.target,
            "context": rollout.context,
            "serving": rollout.serving or {},
            **({} if rollout.policy is None else {"policy": rollout.policy}),
            "start_at": rollout.start_at.isoformat() if rollout.start_at else "",
            "strategy": rollout.strategy or {},
            "devices": {action.value: actions.count(action) for action in Action},
        },
    )
    by = By(Tag.ROLLOUT_OVERRIDDEN, rollout.created_by, rollout.created_at)
    record_override(session, rollout, by)


def _described(target: Target) -> str:
    labels = [f"{key}={value}" for key, value in sorted(target.labels.items())]
    wanted = [*labels, target.filter] if target.filter else labels
    return f"with {', '.join(wanted)}" if wanted else "in the fleet"
