"""What disruption budgets and pace count, asked of the rows: what is down, over all rollouts.

A device is down while an execution of it is IN_PROGRESS; and after one ended without success, or
waits to be tried again, as long as the device is offline: nobody knows what it does. Hearing of it
frees its slot, and so does a later success, and its removal. REJECTED disrupts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sql
from sprat_proto.states import ExecutionState
from sqlmodel import Session, col

from sprat_controller.rollout.budget import PACE_WINDOW, Load
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import Device, DeviceLabel, Execution

_FAILED: Final = (ExecutionState.FAILED, ExecutionState.TIMED_OUT, ExecutionState.ROLLED_BACK)
# Of these only what was under way once.
_LEFT: Final = (ExecutionState.QUEUED, ExecutionState.CANCELED)
_TABLES: Final = Device.metadata.tables
_LATER: Final = _TABLES["execution"].alias("later")
_STAYS: Final = col(Device.revoked_at).is_(None)


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
    which = sql.select(col(Device.id)).where(
        _STAYS, col(Device.id).in_(device_ids), col(Device.id).in_(_down())
    )
    return frozenset(session.connection().execute(which).scalars())


def _down() -> sql.CompoundSelect[Any]:
    """Return the query for the devices that are down; removed ones may be among them."""
    under_way = sql.select(col(Execution.device_id)).where(
        col(Execution.state) == ExecutionState.IN_PROGRESS.value
    )
    ended = sql.or_(
        col(Execution.state).in_([state.value for state in _FAILED]),
        sql.and_(
            col(Execution.state).in_([state.value for state in _LEFT]),
            col(Execution.started_at).is_not(None),
        ),
    )
    succeeded_later = sql.exists(
        sql.select(sql.literal(1))
        .select_from(_LATER)
        .where(
            _LATER.c.device_id == col(Execution.device_id),
            _LATER.c.state == ExecutionState.SUCCEEDED.value,
            _LATER.c.finished_at > col(Execution.updated_at),
        )
    )
    left_behind = (
        sql.select(col(Execution.device_id))
        .join(Device, col(Device.id) == col(Execution.device_id))
        .where(col(Device.online).is_(sql.false()), ended, sql.not_(succeeded_later))
    )
    return sql.union(under_way, left_behind)


def _by_value(session: Session, label: str, which: sql.ColumnElement[bool]) -> dict[str, int]:
    value: sql.ColumnElement[str] = sql.func.coalesce(col(DeviceLabel.value), "")
    of_label = sql.and_(col(DeviceLabel.device_id) == col(Device.id), col(DeviceLabel.key) == label)
    rows = session.connection().execute(
        sql.select(value, sql.func.count())
        .select_from(_TABLES["device"].outerjoin(_TABLES["device_label"], of_label))
        .where(_STAYS, which)
        .group_by(value)
    )
    return dict(row.tuple() for row in rows)


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
