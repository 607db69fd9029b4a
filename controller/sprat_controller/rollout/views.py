"""Rows of rollouts and executions as the values that operators are shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy
from sprat_proto.states import ExecutionState, GroupState, RolloutState
from sqlmodel import Session, col, func, select

from sprat_controller.access import within
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.rollout import approval_override, fit_policy, serving
from sprat_controller.rollout.records import strategy_of
from sprat_controller.rollout.requests import (
    ExecutionView,
    GroupView,
    RolloutView,
    target_from,
)
from sprat_controller.store.tables import Device, Execution, Rollout, RolloutGroup, Variant


def of(session: Session, rollout: Rollout, scope: Scope = EVERYTHING) -> RolloutView:
    """Return one rollout with its counts, as far as it is of the devices in a scope."""
    (view,) = _views(session, [rollout], scope)
    return view


def newest(
    session: Session,
    limit: int,
    beginning: str = "",
    scope: Scope = EVERYTHING,
    *,
    id_beginning: str = "",
) -> tuple[RolloutView, ...]:
    """Return the newest rollouts, newest first, of those that begin so and that are seen.

    Args:
        session: A transaction.
        limit: So many at most.
        beginning: Of their names.
        scope: Only those that have a device in it.
        id_beginning: Of their ids.
    """
    named = col(Rollout.name).startswith(beginning, autoescape=True)
    if id_beginning:
        named &= col(Rollout.id).startswith(id_beginning, autoescape=True)
    seen = within.sees(session, scope, col(Rollout.id))
    order = (col(Rollout.created_at).desc(), col(Rollout.id))
    rollouts = session.exec(select(Rollout).where(named, seen).order_by(*order).limit(limit)).all()
    return _views(session, rollouts, scope)


def executions(
    session: Session, rollout_id: str, scope: Scope = EVERYTHING
) -> tuple[ExecutionView, ...]:
    """Return the executions of a rollout that are of devices in a scope, in order of position."""
    rows = session.exec(
        select(Execution, Variant.variant)
        .outerjoin(Variant, col(Variant.digest) == col(Execution.digest))
        .where(col(Execution.rollout_id) == rollout_id, within.executions(session, scope))
        .order_by(col(Execution.position))
    )
    return tuple(_execution(row, variant) for row, variant in rows)


def _views(session: Session, rollouts: Sequence[Rollout], scope: Scope) -> tuple[RolloutView, ...]:
    ids = [rollout.id for rollout in rollouts]
    groups = _groups(session, ids, scope)
    views = (_rollout(rollout, groups[rollout.id]) for rollout in rollouts)
    if scope.is_everything:
        return tuple(views)
    all_of = within.has_all(session, scope, col(Rollout.id))
    whole = set(session.exec(select(Rollout.id).where(col(Rollout.id).in_(ids), all_of)))
    return tuple(view if view.id in whole else _part(session, view, scope) for view in views)


def _part(session: Session, view: RolloutView, scope: Scope) -> RolloutView:
    """Return what is seen of a rollout that has other devices too: nothing counted or named there.

    What gates and abort criteria say is of all devices together, and so is what was approved.
    """
    devices = within.names(session, scope).where(col(Device.id).in_(view.target.devices))
    named = tuple(session.connection().execute(devices.order_by(col(Device.id))).scalars())
    groups = tuple(
        replace(group, devices=sum(group.counts.values()), verdict=None) for group in view.groups
    )
    return replace(
        view,
        target=replace(view.target, devices=named),
        groups=groups,
        abort=None,
        approval_override=None,
    )


def _groups(
    session: Session, rollout_ids: Sequence[str], scope: Scope
) -> Mapping[str, tuple[GroupView, ...]]:
    """Return the groups of each rollout, in order."""
    counts = _counts(session, rollout_ids, scope)
    rows = session.exec(
        select(RolloutGroup)
        .where(col(RolloutGroup.rollout_id).in_(rollout_ids))
        .order_by(col(RolloutGroup.rollout_id), col(RolloutGroup.number))
    )
    found: defaultdict[str, tuple[GroupView, ...]] = defaultdict(tuple)
    for row in rows:
        found[row.rollout_id] += (_group(row, counts[row.rollout_id, row.number]),)
    return found


def _counts(
    session: Session, rollout_ids: Sequence[str], scope: Scope
) -> Mapping[tuple[str, int], Mapping[ExecutionState, int]]:
    of_group = (col(Execution.rollout_id), col(Execution.group_number), col(Execution.state))
    rows = session.connection().execute(
        sqlalchemy.select(*of_group, func.count())
        .where(col(Execution.rollout_id).in_(rollout_ids), within.executions(session, scope))
        .group_by(*of_group)
    )
    counts: defaultdict[tuple[str, int], dict[ExecutionState, int]] = defaultdict(dict)
    for rollout_id, number, state, count in rows:
        counts[rollout_id, number][ExecutionState(state)] = count
    return counts


def _group(row: RolloutGroup, counts: Mapping[ExecutionState, int]) -> GroupView:
    return GroupView(
        number=row.number,
        name=row.name,
        state=GroupState(row.state),
        devices=row.devices,
        started_at=row.started_at,
        soak_until=row.soak_until,
        finished_at=row.finished_at,
        verdict=row.verdict,
        promoted_by=row.promoted_by,
        promoted_at=row.promoted_at,
        counts=counts,
    )


def _rollout(rollout: Rollout, groups: tuple[GroupView, ...]) -> RolloutView:
    terms = serving.from_json(rollout.serving)
    policy = fit_policy.from_json(rollout.policy)
    counts: Counter[ExecutionState] = Counter()
    for group in groups:
        counts.update(group.counts)
    return RolloutView(
        id=rollout.id,
        name=rollout.name,
        model=rollout.model,
        release=rollout.release,
        alias=rollout.alias,
        target=target_from(rollout.target),
        context=rollout.context,
        slots=terms.slots,
        kv_type=terms.kv_type,
        pinned=terms.is_pinned,
        policy=None if policy is None else fit_policy.said(policy),
        state=RolloutState(rollout.state),
        start_at=rollout.start_at,
        max_in_progress=rollout.max_in_progress,
        execution_timeout_s=rollout.execution_timeout_s,
        created_at=rollout.created_at,
        created_by=rollout.created_by,
        started_at=rollout.started_at,
        finished_at=rollout.finished_at,
        counts=dict(counts),
        strategy=strategy_of(rollout),
        groups=groups,
        revision=rollout.revision,
        abort=rollout.abort,
        approval_override=_override(rollout),
    )


def _override(rollout: Rollout) -> Mapping[str, Any] | None:
    found = approval_override.from_json(rollout.approval_override)
    if found is None:
        return None
    return approval_override.told(found, rollout.id, RolloutState(rollout.state))


def _execution(row: Execution, variant: str | None) -> ExecutionView:
    return ExecutionView(
        id=row.id,
        rollout_id=row.rollout_id,
        device_id=row.device_id,
        position=row.position,
        state=ExecutionState(row.state),
        step=row.step,
        attempt=row.attempt,
        variant=variant,
        digest=row.digest,
        reason=row.reason,
        verdicts=tuple(row.verdicts),
        probe=row.probe,
        created_at=row.created_at,
        started_at=row.started_at,
        deadline_at=row.deadline_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        group=row.group_number,
        hardware_class=row.hardware_class,
        site=row.site,
        tries=row.tries,
        retry_at=row.retry_at,
        excused_at=row.excused_at,
        is_reverting=row.is_reverting,
    )
