"""Changing a rollout that has not started, or what of a paused one has not.

Everything happens in the transaction that holds the rollout. Nothing starts meanwhile: one that is
under way must be paused first. What approvers signed is void by any edit, and asked for anew; a
rollout that was approved and has started proceeds as it was approved, or is stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, GroupState, RolloutState
from sqlalchemy import bindparam
from sqlmodel import Session, col

from sprat_controller.audit.changes import digest
from sprat_controller.errors import ConflictError, RequestError
from sprat_controller.rollout import (
    approvals,
    creating,
    editable,
    four_eyes,
    frozen_strategy,
    grouping,
    signed_strategy,
    sql_facts,
    strategy_said,
    targets,
    timing,
)
from sprat_controller.rollout.approver_policy import PolicySource
from sprat_controller.rollout.grouping import Member, Placed
from sprat_controller.rollout.phases import ROLLOUT, ExecutionEvent, RolloutEvent, apply
from sprat_controller.rollout.plan import too_old
from sprat_controller.rollout.records import (
    By,
    find_runs,
    move_execution,
    move_rollout,
    strategy_of,
)
from sprat_controller.rollout.requests import RolloutEdit, target_from
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import Device, Execution, Rollout

_PLACE: Final = (
    sqlalchemy.update(Execution)
    .where(
        col(Execution.rollout_id) == bindparam("of_rollout"),
        col(Execution.device_id) == bindparam("of_device"),
    )
    .values(group_number=bindparam("to_group"), position=bindparam("to_position"))
)


@dataclass(frozen=True)
class _Row:
    """An execution as far as it is placed anew."""

    device_id: str
    hardware_class: str
    site: str
    position: int


def edit(
    session: Session, rollout: Rollout, request: RolloutEdit, policy: PolicySource, by: By
) -> None:
    """Change a rollout that is held; what was approved of it must be approved anew.

    Raises:
        RequestError: The strategy that comes of it is not a possible one.
        ConflictError: The rollout's state does not allow it, or what is to change has started.
    """
    state = RolloutState(rollout.state)
    apply(ROLLOUT, state, RolloutEvent.EDIT, f"rollout {rollout.id}", "rollout_state")
    before, after = strategy_of(rollout), _after(rollout, request, by)
    has_started = state is RolloutState.PAUSED
    if has_started:
        _check_started(session, rollout, request, before, after)
    was_frozen = rollout.spec is not None
    changes = _changes(request, after, by)
    if not has_started:
        changes["spec"] = None
    said = {name: str(value) for name, value in _asked(request).items()}
    move_rollout(session, rollout, RolloutEvent.EDIT, by, said=said, told=_told, **changes)
    session.flush()
    if before.groups != after.groups:
        _regroup(session, rollout, after)
    if has_started:
        return
    _reject_too_old(session, rollout, four_eyes.enforcing(policy(session)), by)
    if after.override != before.override:
        creating.record_override(session, rollout, by)
    again = By(Tag.ROLLOUT_SUBMITTED, by.actor, by.now)
    # One that was held back is submitted by who starts it, or gives it another time.
    if was_frozen and state is not RolloutState.READY:
        approvals.submit(session, rollout, policy(session), again)
    elif request.start_at is not None and rollout.state == RolloutState.READY:
        creating.schedule(session, rollout, policy(session), again)


def _told(rollout: Rollout) -> str:
    """Return the digest of how a rollout proceeds."""
    start = rollout.start_at.isoformat() if rollout.start_at else ""
    return digest({"name": rollout.name, "start_at": start, "strategy": rollout.strategy or {}})


def _after(rollout: Rollout, request: RolloutEdit, by: By) -> Strategy:
    """Return the strategy that the rollout is to have."""
    strategy = strategy_of(rollout)
    if request.strategy is not None:
        strategy = strategy_said.edited(strategy, request.strategy)
    after = frozen_strategy.paced(
        strategy,
        max_in_progress=request.max_in_progress,
        execution_s=request.execution_timeout_s,
    )
    fault = None if after == strategy_of(rollout) else timing.fault(after, by.now)
    if fault is not None:
        raise RequestError("invalid_rollout", fault)
    return after


def _check_started(
    session: Session, rollout: Rollout, request: RolloutEdit, before: Strategy, after: Strategy
) -> None:
    if request.start_at is not None:
        raise ConflictError(
            "rollout_started",
            f"rollout {rollout.id} has started: expected no other time to start at, found one",
        )
    if before != after and rollout.spec is not None:
        raise ConflictError(
            "rollout_approved",
            f"rollout {rollout.id} has started as it was approved: expected it to go on so; stop it"
            " and roll the rest out anew, which can be approved",
        )
    rows = sql_facts.groups(session, rollout.id)
    started = sum(row.state != GroupState.SCHEDULED for row in rows)
    editable.check_started(rollout.id, before, after, started)


def _asked(request: RolloutEdit) -> dict[str, Any]:
    """Return what was asked to be different."""
    said = {
        "name": request.name,
        "start_at": request.start_at and request.start_at.isoformat(),
        "max_in_progress": request.max_in_progress,
        "execution_timeout_s": request.execution_timeout_s,
        "strategy": request.strategy and dict(request.strategy),
    }
    return {name: value for name, value in said.items() if value is not None}


def _changes(request: RolloutEdit, after: Strategy, by: By) -> dict[str, Any]:
    """Return the columns that an edit sets."""
    given = {"name": request.name, "start_at": request.start_at}
    return {
        **{name: value for name, value in given.items() if value is not None},
        "max_in_progress": after.pace.max_in_progress,
        "execution_timeout_s": after.deadlines.execution_s,
        "strategy": frozen_strategy.to_json(after),
        "priority": after.priority,
        "edited_by": by.actor,
    }


def _regroup(session: Session, rollout: Rollout, strategy: Strategy) -> None:
    """Cut the groups that have not started anew, out of the devices that are in them."""
    rows = sql_facts.groups(session, rollout.id)
    first = sum(row.state != GroupState.SCHEDULED for row in rows)
    begun = _executions(session, rollout, col(Execution.group_number) < first)
    waiting = _executions(session, rollout, col(Execution.group_number) >= first)
    done = grouping.Begun(
        groups=first,
        devices=len(begun),
        next_position=max((one.position for one in begun), default=-1) + 1,
        classes=frozenset(one.hardware_class for one in begun),
    )
    placed = _placed(session, rollout, strategy, waiting, done)
    # A statement a device: a page of them goes in one round trip.
    if placed:
        session.connection().execute(
            _PLACE,
            [
                {
                    "of_rollout": rollout.id,
                    "of_device": one.device_id,
                    "to_group": one.group,
                    "to_position": one.position,
                }
                for one in placed
            ],
        )
    held = Counter(one.group for one in placed)
    for row in rows[first:]:
        session.delete(row)
    session.flush()
    creating.keep_groups(session, rollout, strategy, held, first)
    if rollout.abort is not None and "since" in rollout.abort:
        kept = {
            number: one for number, one in rollout.abort["since"].items() if int(number) < first
        }
        rollout.abort = {**rollout.abort, "since": kept}
        session.add(rollout)


def _placed(
    session: Session,
    rollout: Rollout,
    strategy: Strategy,
    waiting: Sequence[_Row],
    begun: grouping.Begun,
) -> list[Placed]:
    salt = f"{rollout.model}@{rollout.release}"
    ids = {one.device_id for one in waiting}
    if any(group.filter for group in strategy.groups):
        every = targets.grouped(session, target_from(rollout.target), strategy)
        members = [one for one in every if one.device_id in ids]
    else:
        members = [Member(one.device_id, one.hardware_class, one.site) for one in waiting]
    placed = grouping.split(members, strategy, salt, begun)
    # Devices that left the target get nothing when their turn comes: they come last.
    left = sorted(ids - {one.device_id for one in placed})
    last, position = len(strategy.groups) - 1, begun.next_position + len(placed)
    return [*placed, *(Placed(name, last, place) for place, name in enumerate(left, position))]


def _executions(
    session: Session, rollout: Rollout, which: sqlalchemy.ColumnElement[bool]
) -> list[_Row]:
    found = session.connection().execute(
        sqlalchemy.select(
            col(Execution.device_id),
            col(Execution.hardware_class),
            col(Execution.site),
            col(Execution.position),
        )
        .where(col(Execution.rollout_id) == rollout.id, which)
        .order_by(col(Execution.device_id))
    )
    return [_Row(*row) for row in found]


def _reject_too_old(session: Session, rollout: Rollout, enforcing: Collection[str], by: By) -> None:
    """End the executions of devices whose agents cannot be told what the strategy asks now."""
    proceeding = signed_strategy.proceeding(strategy_of(rollout))
    rows = session.connection().execute(
        sqlalchemy.select(
            col(Execution.id), col(Device.id), col(Device.capability), col(Device.group)
        )
        .join(Device, col(Device.id) == col(Execution.device_id))
        .where(
            col(Execution.rollout_id) == rollout.id,
            col(Execution.state) == ExecutionState.QUEUED.value,
            col(Device.capability) < proceeding.needs,
        )
    )
    reasons = {
        execution: reason
        for execution, device, capability, group in rows
        if (reason := too_old(device, capability, proceeding, enforces=group in enforcing))
    }
    decided = By(Tag.EXECUTION_DECIDED, by.actor, by.now)
    for run in find_runs(session, sorted(reasons)):
        move_execution(session, run, ExecutionEvent.REJECT, decided, reason=reasons[run.id])
