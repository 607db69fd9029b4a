"""From plans of devices to the rows of their executions: when a rollout is created, and later."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from sprat_proto import approval
from sprat_proto.states import ExecutionState
from sqlmodel import Session, insert

from sprat_controller.rollout import fit_policy, serving, signed_strategy, targets
from sprat_controller.rollout.grouping import Member, Placed
from sprat_controller.rollout.phases import EXECUTION, ExecutionEvent, apply
from sprat_controller.rollout.plan import Action, Planned, verdict_json
from sprat_controller.rollout.plan import plan as make_plan
from sprat_controller.rollout.records import strategy_of
from sprat_controller.rollout.requests import PlanRequest, Target, target_from
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import Execution, Rollout

NewId = Callable[[], str]

_INSERTED: Final = 1000  # executions in one statement
_STARTS: Final[Mapping[Action, ExecutionEvent | None]] = {
    Action.INSTALL: None,
    Action.NONE: ExecutionEvent.SKIP,
    Action.REJECTED: ExecutionEvent.REJECT,
}


@dataclass(frozen=True)
class Snapshot:
    """Who is in a rollout, each by its device: what it gets, what it is, and where it stands."""

    lines: Sequence[Planned]
    members: Sequence[Member]
    placed: Sequence[Placed]


def plan(
    session: Session,
    request: PlanRequest,
    strategy: Strategy,
    enforcing: Collection[str],
    *,
    only: Collection[str] | None = None,
) -> Sequence[Planned]:
    """Return who gets which variant and why, in order of name.

    Args:
        session: Of the database.
        request: What and to whom.
        strategy: Not every agent knows all of it.
        enforcing: Groups whose devices check approvals themselves.
        only: Digests of the variants that come into question; None: all of the release.

    Raises:
        NotFoundError: No such model, release or device.
        ConflictError: The release was retired.
    """
    variants = targets.candidates(session, request.model, request.release)
    variants = [one for one in variants if only is None or one.digest in only]
    devices = targets.devices(session, request, enforcing)
    return make_plan(
        devices,
        variants,
        request.context,
        request.terms,
        request.policy,
        proceeding=signed_strategy.proceeding(strategy),
    )


def keep(
    session: Session, rollout: Rollout, snapshot: Snapshot, now: datetime, new_id: NewId
) -> None:
    """Keep an execution for each device that was placed."""
    lines = {line.device_id: line for line in snapshot.lines}
    members = {member.device_id: member for member in snapshot.members}
    rows: Iterable[dict[str, Any]] = (
        _execution(
            new_id(), rollout, place, lines[place.device_id], members[place.device_id], now=now
        )
        for place in snapshot.placed
    )
    while chunk := list(islice(rows, _INSERTED)):
        session.connection().execute(insert(Execution), chunk)


def join(
    session: Session,
    rollout: Rollout,
    placed: Sequence[Placed],
    now: datetime,
    new_id: NewId,
    *,
    enforcing: Collection[str],
) -> tuple[str, ...]:
    """Keep executions for devices that come to a rollout that is under way.

    Devices that have one already, or are not in the target any more, are left out. Where approvers
    signed a specification, only what they signed is chosen.

    Args:
        session: A transaction.
        rollout: It is held.
        placed: Who comes, and where to.
        now: The caller's clock.
        new_id: Makes ids of executions.
        enforcing: As for `plan`.

    Returns:
        The devices that are in now.

    Raises:
        ConflictError: The release was retired meanwhile.
    """
    wanted = {place.device_id: place for place in placed}
    inside = targets.members(session, target_from(rollout.target), tuple(wanted))
    ids = tuple(sorted(inside - targets.having(session, rollout.id, tuple(wanted))))
    if not ids:
        return ()
    strategy = strategy_of(rollout)
    request = PlanRequest(
        rollout.model,
        rollout.release,
        rollout.alias,
        Target(devices=ids),
        rollout.context,
        serving.from_json(rollout.serving),
        fit_policy.from_json(rollout.policy),
    )
    signed = None if rollout.spec is None else frozenset(approval.decode(rollout.spec).digests)
    lines = plan(session, request, strategy, enforcing, only=signed)
    members = targets.grouped(session, request.target, strategy)
    rows = Snapshot(lines, members, [wanted[device] for device in ids])
    keep(session, rollout, rows, now, new_id)
    return ids


def _execution(
    execution_id: str,
    rollout: Rollout,
    place: Placed,
    line: Planned,
    member: Member,
    *,
    now: datetime,
) -> dict[str, Any]:
    state, event = ExecutionState.QUEUED, _STARTS[line.action]
    if event is not None:
        state = apply(EXECUTION, state, event, f"execution {execution_id}", "execution_state")
    return {
        "id": execution_id,
        "rollout_id": rollout.id,
        "device_id": line.device_id,
        "position": place.position,
        "group_number": place.group,
        "hardware_class": line.hardware_class or "",
        "site": member.site,
        "state": state.value,
        "digest": line.digest,
        "verdicts": [verdict_json(verdict) for verdict in line.verdicts],
        "reason": line.reason.as_json() if line.reason else None,
        "created_at": now,
        "updated_at": now,
        "finished_at": now if state.is_final else None,
    }
