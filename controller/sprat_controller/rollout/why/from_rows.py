"""What the rules know of a device, read by indexes: it costs the same in a large fleet.

What is counted over many rows (the queue before it, a disruption budget) is read only where it can
be what holds the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeAlias

import sqlalchemy as sql
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step
from sqlmodel import Session, col

from sprat_controller.errors import NotFoundError
from sprat_controller.rollout import abort_said, frozen_strategy, targets, unavailable
from sprat_controller.rollout.gates import judgement as judgements
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import UNFINISHED
from sprat_controller.rollout.requests import target_from
from sprat_controller.rollout.strategy import (
    Group,
    Membership,
    Strategy,
)
from sprat_controller.rollout.why import rules
from sprat_controller.rollout.why.known import (
    AliasAt,
    DeviceAt,
    GroupAt,
    RolloutAt,
    RunAt,
    Wanted,
)
from sprat_controller.store.tables import Device, DeviceLabel, Execution, Rollout, RolloutGroup

_RECENT: Final = 20  # runs of an alias that are looked at: the newest that was not superseded
_OF_DEVICE: Final = sql.bindparam("device_id", type_=sql.String)
_OF_ROLLOUT: Final = sql.bindparam("rollout_id", type_=sql.String)
_OF_GROUP: Final = sql.bindparam("group_number", type_=sql.Integer)
_DEVICE: Final = sql.select(
    col(Device.revoked_at),
    col(Device.quarantined_at),
    col(Device.quarantine_reason),
    col(Device.online),
    col(Device.last_seen_at),
    col(Device.penalty_until),
    col(Device.running),
).where(col(Device.id) == _OF_DEVICE)
_LABELS: Final = sql.select(col(DeviceLabel.key), col(DeviceLabel.value)).where(
    col(DeviceLabel.device_id) == _OF_DEVICE
)
_RANKED: Final = (
    sql.select(
        col(Execution.id),
        sql.func.row_number()
        .over(
            partition_by=col(Rollout.alias),
            order_by=(col(Execution.created_at).desc(), col(Execution.id).desc()),
        )
        .label("age"),
    )
    .join(Rollout, col(Rollout.id) == col(Execution.rollout_id))
    .where(col(Execution.device_id) == _OF_DEVICE)
    .subquery()
)
_ROLLOUTS: Final = Rollout.metadata.tables["rollout"].c
_OF_ITS_ROLLOUT: Final[tuple[Any, ...]] = (
    _ROLLOUTS.id.label("rollout_id"),
    _ROLLOUTS.state.label("rollout_state"),
    _ROLLOUTS.created_at.label("made_at"),
    *(
        _ROLLOUTS[name]
        for name in (
            "alias",
            "model",
            "release",
            "start_at",
            "due_at",
            "run_until",
            "abort",
            "strategy",
            "priority",
            "max_in_progress",
            "execution_timeout_s",
        )
    ),
)
_RUNNING: Final = (
    sql.select(*_OF_ITS_ROLLOUT, _ROLLOUTS.target)
    .where(
        _ROLLOUTS.state == RolloutState.RUNNING.value,
        ~sql.exists(
            sql.select(sql.literal(1)).where(
                col(Execution.rollout_id) == _ROLLOUTS.id,
                col(Execution.device_id) == _OF_DEVICE,
            )
        ),
    )
    .order_by(_ROLLOUTS.created_at.desc(), _ROLLOUTS.id.desc())
)
_RUNS: Final = (
    sql.select(
        col(Execution.position),
        col(Execution.group_number),
        col(Execution.state),
        col(Execution.step),
        col(Execution.digest),
        col(Execution.retry_at),
        col(Execution.deadline_at),
        col(Execution.excused_at),
        col(Execution.is_reverting),
        col(Execution.reason),
        *_OF_ITS_ROLLOUT,
    )
    .select_from(_RANKED)
    .join(Execution, col(Execution.id) == _RANKED.c.id)
    .join(Rollout, col(Rollout.id) == col(Execution.rollout_id))
    .where(_RANKED.c.age <= _RECENT)
    .order_by(col(Execution.created_at).desc(), col(Execution.id).desc())
)
_GROUPS: Final = (
    sql.select(
        col(RolloutGroup.number),
        col(RolloutGroup.name),
        col(RolloutGroup.state),
        col(RolloutGroup.soak_until),
        col(RolloutGroup.verdict),
        col(RolloutGroup.promoted_at),
    )
    .where(col(RolloutGroup.rollout_id) == _OF_ROLLOUT)
    .order_by(col(RolloutGroup.number))
)
_IN_GROUP: Final = (
    sql.select(sql.func.count())
    .select_from(Execution)
    .where(col(Execution.rollout_id) == _OF_ROLLOUT, col(Execution.group_number) == _OF_GROUP)
)
_TALLY: Final = (
    sql.select(col(Execution.state), sql.func.count())
    .where(col(Execution.rollout_id) == _OF_ROLLOUT, col(Execution.group_number) == _OF_GROUP)
    .group_by(col(Execution.state))
)
# Not by an index of states, which holds the whole queue: by the one of those that are excused.
_EXCUSED: Final = _IN_GROUP.where(
    sql.func.coalesce(col(Execution.state), "").in_(UNFINISHED),
    col(Execution.excused_at).is_not(None),
)
_AHEAD: Final = (
    sql.select(sql.func.count())
    .select_from(Execution)
    .where(
        col(Execution.rollout_id) == _OF_ROLLOUT,
        col(Execution.state) == ExecutionState.QUEUED.value,
        col(Execution.position) < sql.bindparam("position", type_=sql.Integer),
    )
)
# Of these the success threshold of a group is a share, but for those that are excused.
_COUNTING: Final = frozenset(ExecutionState) - {ExecutionState.CANCELED, ExecutionState.REMOVED}
_ALL: Final = 100  # percent
_NOT_STARTED: Final = frozenset(
    {
        RolloutState.CREATING.value,
        RolloutState.WAITING_FOR_APPROVAL.value,
        RolloutState.READY.value,
        RolloutState.SCHEDULED.value,
    }
)

Row: TypeAlias = sql.RowMapping


def answers(session: Session, device_id: str, now: datetime) -> tuple[rules.Answer, ...]:
    """Return why the device stands where it stands, under each of its aliases.

    Raises:
        NotFoundError: No such device.
    """
    asked = {"device_id": device_id}
    row = session.connection().execute(_DEVICE, asked).mappings().first()
    if row is None:
        raise NotFoundError("device_not_found", f"there is no device named {device_id!r}")
    device = _device(session, device_id, row)
    running: Mapping[str, Mapping[str, str]] = row["running"] or {}
    runs = _runs(session, device_id)
    joins = _joins(session, device_id, runs)
    aliases = [
        AliasAt(
            alias,
            running=running[alias]["digest"] if alias in running else None,
            runs=_named(running[alias]) if alias in running else "",
            wanted=joins.get(alias) or _wanted(session, device, runs.get(alias, ()), now),
        )
        for alias in sorted({*runs, *running, *joins})
    ]
    return rules.answers(device, aliases, now)


def answering(runs: Sequence[Row]) -> Row:
    """Return the run that answers for an alias.

    The newest that no other rollout took the place of; but one that is under way comes before one
    whose rollout has not started.

    Args:
        runs: Of one alias, newest first, at least one.
    """
    newest = next((one for one in runs if not _is_superseded(one)), runs[0])
    if newest["rollout_state"] in _NOT_STARTED:
        return next((one for one in runs if _is_under_way(one)), newest)
    return newest


def _device(session: Session, device_id: str, row: Row) -> DeviceAt:
    labels = session.connection().execute(_LABELS, {"device_id": device_id})
    return DeviceAt(
        id=device_id,
        is_removed=row["revoked_at"] is not None,
        quarantine=None if row["quarantined_at"] is None else row["quarantine_reason"] or "",
        is_online=row["online"],
        last_seen_at=row["last_seen_at"],
        penalty_until=row["penalty_until"],
        labels={pair[0]: pair[1] for pair in labels},
    )


def _runs(session: Session, device_id: str) -> dict[str, list[Row]]:
    """Return the newest runs of each alias, newest first."""
    found: dict[str, list[Row]] = {}
    for row in session.connection().execute(_RUNS, {"device_id": device_id}).mappings():
        found.setdefault(row["alias"], []).append(row)
    return found


def _joins(
    session: Session, device_id: str, runs: Mapping[str, Sequence[Row]]
) -> dict[str, Wanted]:
    """Return, by alias, the newest rollout that is about to take in a device that came later."""
    found: dict[str, Wanted] = {}
    for row in session.connection().execute(_RUNNING, {"device_id": device_id}).mappings():
        strategy, alias = _strategy(row), row["alias"]
        if strategy.membership is not Membership.CONTINUOUS or alias in found:
            continue
        newer = [one for one in runs.get(alias, ()) if one["made_at"] > row["made_at"]]
        if not newer and targets.members(session, target_from(row["target"]), [device_id]):
            run = RunAt(ExecutionState.QUEUED)
            found[alias] = Wanted(_rollout(row, strategy), run, is_joining=True)
    return found


def _rollout(row: Row, strategy: Strategy) -> RolloutAt:
    return RolloutAt(
        id=row["rollout_id"],
        brings=f"{row['model']}@{row['release']}",
        state=RolloutState(row["rollout_state"]),
        start_at=row["start_at"],
        looks_at=row["due_at"],
        run_until=row["run_until"],
        aborted=abort_said.criterion(row["abort"]),
        stopped_by=abort_said.stopped_by(row["abort"]),
        held_back=abort_said.held_back(row["abort"]),
        strategy=strategy,
    )


def _wanted(
    session: Session, device: DeviceAt, runs: Sequence[Row], now: datetime
) -> Wanted | None:
    if not runs:
        return None
    row = answering(runs)
    strategy = _strategy(row)
    group, before = _groups(session, row, strategy)
    wanted = Wanted(
        rollout=_rollout(row, strategy),
        run=RunAt(
            state=ExecutionState(row["state"]),
            step=Step(row["step"]) if row["step"] in {*Step} else None,
            digest=row["digest"],
            retry_at=row["retry_at"],
            deadline_at=row["deadline_at"],
            is_excused=row["excused_at"] is not None,
            is_reverting=row["is_reverting"],
            reason=None if row["reason"] is None else _reason(row["reason"]),
        ),
        group=group,
        before=before,
        outranked_by=_outranked_by(row, runs),
    )
    return (
        _counted_out(session, device, row, wanted, now)
        if rules.is_next(device, wanted, now)
        else wanted
    )


def _counted_out(
    session: Session, device: DeviceAt, row: Row, wanted: Wanted, now: datetime
) -> Wanted:
    """Return the same with what its limits count, and how many are before it."""
    rollout = wanted.rollout
    where = {"rollout_id": rollout.id, "position": row["position"]}
    ahead = session.connection().execute(_AHEAD, where).scalar_one()
    return replace(
        wanted,
        run=replace(wanted.run, ahead=ahead),
        load=unavailable.load_at(session, rollout.id, rollout.strategy, device.labels, now),
        is_down=bool(unavailable.among(session, [device.id])),
    )


def _strategy(row: Row) -> Strategy:
    if row["strategy"] is None:
        return frozen_strategy.of_old(row["max_in_progress"], row["execution_timeout_s"])
    return frozen_strategy.from_json(row["strategy"])


def _groups(
    session: Session, row: Row, strategy: Strategy
) -> tuple[GroupAt | None, GroupAt | None]:
    """Return the run's own group, and the first before it that is not through."""
    of = {"rollout_id": row["rollout_id"]}
    rows = session.connection().execute(_GROUPS, of).mappings().all()
    own = next(
        (_group(one, strategy) for one in rows if one["number"] == row["group_number"]), None
    )
    earlier = (one for one in rows if one["number"] < row["group_number"])
    before = next((_group(one, strategy) for one in earlier if not _is_through(one)), None)
    if before is not None:
        before = _counted(session, row["rollout_id"], before, strategy)
    return own, before


def _is_through(group: Row) -> bool:
    """Tell whether the next one may start."""
    is_given_up = group["state"] in (GroupState.ERROR, GroupState.ROLLED_BACK)
    is_promoted = group["promoted_at"] is not None
    return group["state"] == GroupState.FINISHED or (is_given_up and is_promoted)


def _group(row: Row, strategy: Strategy) -> GroupAt:
    asked = _asked(strategy, row["number"])
    judgement = None if row["verdict"] is None else judgements.from_json(row["verdict"])
    return GroupAt(
        number=row["number"],
        state=GroupState(row["state"]),
        name=row["name"],
        soak_until=row["soak_until"],
        has_gate=asked.gate is not None,
        verdict=None if judgement is None else judgement.verdict,
        judgement="" if judgement is None else judgement.said(),
        waits_for_promotion=asked.waits_for_promotion and row["promoted_at"] is None,
    )


def _counted(session: Session, rollout_id: str, group: GroupAt, strategy: Strategy) -> GroupAt:
    """Return the group with how many of it succeeded."""
    of_group = {"rollout_id": rollout_id, "group_number": group.number}
    rows = session.connection().execute(_TALLY, of_group).all()
    counts = {ExecutionState(row[0]): row[1] for row in rows}
    succeeded = counts.get(ExecutionState.SUCCEEDED, 0)
    excused = session.connection().execute(_EXCUSED, of_group).scalar_one()
    counting = sum(counts.get(state, 0) for state in _COUNTING) - excused
    least = _asked(strategy, group.number).success_percent * counting
    is_enough = succeeded * _ALL >= least
    return replace(group, is_enough=is_enough, succeeded=succeeded, counting=counting)


def _asked(strategy: Strategy, number: int) -> Group:
    return strategy.groups[number] if number < len(strategy.groups) else Group()


def _outranked_by(row: Row, runs: Sequence[Row]) -> str:
    """Return the rollout of higher priority that is under way under the same alias."""
    above = (
        one["rollout_id"]
        for one in runs
        if _is_under_way(one)
        and one["rollout_id"] != row["rollout_id"]
        and one["priority"] > row["priority"]
    )
    return next(above, "")


def _is_under_way(row: Row) -> bool:
    return row["state"] == ExecutionState.IN_PROGRESS


def _is_superseded(row: Row) -> bool:
    code = _json(row["reason"]).get("code")
    return row["state"] == ExecutionState.CANCELED and code == ReasonCode.SUPERSEDED.value


def _named(running: Mapping[str, str]) -> str:
    return f"{running['model']}@{running['release']}"


def _json(stored: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return stored or {}


def _reason(stored: Mapping[str, Any]) -> Reason:
    return Reason(str(stored.get("code", "")), str(stored.get("message", "")))
