"""What disruption budgets and pace count, asked of the rows: what is down, over all rollouts.

A device is down while an execution of it is IN_PROGRESS; and after one ended without success, or
waits to be tried again, as long as the device is offline: nobody knows what it does. Hearing of it
frees its slot, and so does a later success, and its removal. REJECTED disrupts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sql
from sprat_proto.states import ExecutionState
from sqlmodel import Session, col

from sprat_controller.rollout.budget import PACE_WINDOW, Load, allowed
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import Device, DeviceLabel, Execution

_FAILED: Final = (ExecutionState.FAILED, ExecutionState.TIMED_OUT, ExecutionState.ROLLED_BACK)
# Of these only what was under way once.
_LEFT: Final = (ExecutionState.QUEUED, ExecutionState.CANCELED)
_TABLES: Final = Device.metadata.tables
_LATER: Final = _TABLES["execution"].alias("later")
_STAYS: Final = col(Device.revoked_at).is_(None)
_UNDER_WAY: Final = col(Execution.state) == ExecutionState.IN_PROGRESS.value
_ENDED: Final = sql.or_(
    col(Execution.state).in_([state.value for state in _FAILED]),
    sql.and_(
        col(Execution.state).in_([state.value for state in _LEFT]),
        col(Execution.started_at).is_not(None),
    ),
)
# Of a device that is offline: it ended without success, and nothing succeeded there since.
_LEFT_BEHIND: Final = sql.and_(
    _ENDED,
    sql.not_(
        sql.exists(
            sql.select(sql.literal(1))
            .select_from(_LATER)
            .where(
                _LATER.c.device_id == col(Execution.device_id),
                _LATER.c.state == ExecutionState.SUCCEEDED.value,
                _LATER.c.finished_at > col(Execution.updated_at),
            )
        )
    ),
)
# Asked of the row of a device: the same as to be among `_down()`.
_OF_IT: Final = sql.select(sql.literal(1)).where(col(Execution.device_id) == col(Device.id))
_IS_DOWN: Final = sql.or_(
    sql.exists(_OF_IT.where(_UNDER_WAY)),
    sql.and_(col(Device.online).is_(sql.false()), sql.exists(_OF_IT.where(_LEFT_BEHIND))),
)


def load(session: Session, rollout_id: str, strategy: Strategy, now: datetime) -> Load:
    """Return what is under way, as far as the strategy's limits ask.

    Args:
        session: A transaction, so that nothing starts between the count and the starts.
        rollout_id: Whose pace it is.
        strategy: Its limits.
        now: The caller's clock.
    """
    if strategy.override:
        return Load()
    pace = strategy.pace
    starts, oldest = _starts(session, rollout_id, now) if pace.starts_per_minute else (0, None)
    labels = {budget.label for budget in strategy.budgets}
    in_percent = {one.label for one in strategy.budgets if one.max_unavailable_percent}
    return Load(
        in_progress=_in_progress(session, rollout_id) if pace.max_in_progress else 0,
        starts_last_minute=starts,
        oldest_start_at=oldest,
        down={label: down(session, label) for label in sorted(labels)},
        fleet={label: fleet(session, label) for label in sorted(in_percent)},
    )


def down(session: Session, label: str) -> dict[str, int]:
    """Return how many devices are down by their value of a label; '' is for those without it."""
    return _by_value(session, label, col(Device.id).in_(_down()))


def fleet(session: Session, label: str) -> dict[str, int]:
    """Return how many devices there are by their value of a label; '' is for those without it."""
    return _by_value(session, label, sql.true())


def among(session: Session, device_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the devices that are down."""
    which = sql.select(col(Device.id)).where(_STAYS, col(Device.id).in_(device_ids), _IS_DOWN)
    return frozenset(session.connection().execute(which).scalars())


def load_at(
    session: Session,
    rollout_id: str,
    strategy: Strategy,
    labels: Mapping[str, str],
    now: datetime,
) -> Load:
    """Return what `load` does, as far as the limits hold a device with these labels.

    No more is counted of what is down than the budget allows: the rest decides nothing.
    """
    if strategy.override:
        return Load()
    budgets = strategy.budgets
    whole = load(session, rollout_id, msgspec.structs.replace(strategy, budgets=()), now)
    fleet_at = {
        one.label: {labels.get(one.label, ""): _count(session, one.label, labels)}
        for one in budgets
        if one.max_unavailable_percent
    }
    most: dict[str, int] = {}
    for one in budgets:
        devices = fleet_at.get(one.label, {}).get(labels.get(one.label, ""), 0)
        most[one.label] = max(most.get(one.label, 0), allowed(one, devices))
    down_at = {
        label: {labels.get(label, ""): _count(session, label, labels, _IS_DOWN, at_most=limit)}
        for label, limit in most.items()
    }
    return replace(whole, down=down_at, fleet=fleet_at)


def _down() -> sql.CompoundSelect[Any]:
    """Return the query for the devices that are down; removed ones may be among them."""
    under_way = sql.select(col(Execution.device_id)).where(_UNDER_WAY)
    left_behind = (
        sql.select(col(Execution.device_id))
        .join(Device, col(Device.id) == col(Execution.device_id))
        .where(col(Device.online).is_(sql.false()), _LEFT_BEHIND)
    )
    return sql.union(under_way, left_behind)


def _count(
    session: Session,
    label: str,
    labels: Mapping[str, str],
    which: sql.ColumnElement[bool] | None = None,
    *,
    at_most: int | None = None,
) -> int:
    """Return how many devices have the same value of a label as `labels`, but at most so many."""
    value = labels.get(label, "")
    of_key = sql.select(col(DeviceLabel.device_id)).where(col(DeviceLabel.key) == label)
    has_value = (
        col(Device.id).in_(of_key.where(col(DeviceLabel.value) == value))
        if value
        else col(Device.id).not_in(of_key.where(col(DeviceLabel.value) != ""))
    )
    found = sql.select(col(Device.id)).where(_STAYS, has_value)
    found = found if which is None else found.where(which)
    found = found if at_most is None else found.limit(at_most)
    counted = sql.select(sql.func.count()).select_from(found.subquery())
    return session.connection().execute(counted).scalar_one()


def _by_value(session: Session, label: str, which: sql.ColumnElement[bool]) -> dict[str, int]:
    value: sql.ColumnElement[str] = sql.func.coalesce(col(DeviceLabel.value), "")
    of_label = sql.and_(col(DeviceLabel.device_id) == col(Device.id), col(DeviceLabel.key) == label)
    rows = session.connection().execute(
        sql.select(value, sql.func.count())
        .select_from(_TABLES["device"].outerjoin(_TABLES["device_label"], of_label))
        .where(_STAYS, which)
        .group_by(value)
    )
    return {row[0]: row[1] for row in rows}


def _in_progress(session: Session, rollout_id: str) -> int:
    counted = sql.select(sql.func.count()).where(
        col(Execution.rollout_id) == rollout_id,
        col(Execution.state) == ExecutionState.IN_PROGRESS.value,
    )
    return session.connection().execute(counted).scalar_one()


def _starts(session: Session, rollout_id: str, now: datetime) -> tuple[int, datetime | None]:
    counted = sql.select(sql.func.count(), sql.func.min(col(Execution.started_at))).where(
        col(Execution.rollout_id) == rollout_id,
        col(Execution.started_at) > now - PACE_WINDOW,
    )
    count, oldest = session.connection().execute(counted).one()
    return count, oldest
