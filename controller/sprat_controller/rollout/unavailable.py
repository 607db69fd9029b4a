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

from sprat_controller.rollout.budget import PACE_WINDOW, Candidate, Load, admit, allowed
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import MAY_BE_DOWN, OFFLINE, Device, DeviceLabel, Execution

_TABLES: Final = Device.metadata.tables
_LATER: Final = _TABLES["execution"].alias("later")
_STAYS: Final = col(Device.revoked_at).is_(None)
# Not bound as values: only so both databases know the index that holds just these.
_MAY_BE_DOWN: Final = sql.text(f"({MAY_BE_DOWN})")
_UNDER_WAY: Final = col(Execution.state) == ExecutionState.IN_PROGRESS.value
_BUSY: Final = sql.select(col(Execution.device_id)).where(_UNDER_WAY).distinct().subquery("busy")
_AWAY: Final = sql.select(col(Device.id)).where(sql.text(f"({OFFLINE})")).subquery("away")
_COULD: Final = (
    sql.select(col(Execution.device_id), col(Execution.state), col(Execution.updated_at))
    .where(_MAY_BE_DOWN)
    .subquery("could")
)
_SMALL: Final = 1_000  # devices of one value that are looked up one by one


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
    which = _down(col(Execution.device_id).in_(device_ids))
    return frozenset(session.connection().execute(which).scalars())


def load_at(
    session: Session,
    rollout_id: str,
    strategy: Strategy,
    labels: Mapping[str, str],
    now: datetime,
) -> Load:
    """Return what `load` does, as far as the limits hold a device with these labels.

    No more is counted of what is down than the budget allows: the rest decides nothing. Where even
    fewer could be down, with any labels, it is as many as could be.
    """
    if strategy.override:
        return Load()
    budgets, only_paced = strategy.budgets, msgspec.structs.replace(strategy, budgets=())
    whole = load(session, rollout_id, only_paced, now)
    if admit(only_paced, whole, (Candidate(""),)).held:
        return whole  # the pace holds it: what is down decides nothing
    fleet_at = {
        one.label: {labels.get(one.label, ""): _fleet_at(session, one.label, labels)}
        for one in budgets
        if one.max_unavailable_percent
    }
    most: dict[str, int] = {}
    for one in budgets:
        devices = fleet_at.get(one.label, {}).get(labels.get(one.label, ""), 0)
        most[one.label] = max(most.get(one.label, 0), allowed(one, devices))
    down_at = {
        label: {labels.get(label, ""): _down_at(session, label, labels, limit)}
        for label, limit in most.items()
    }
    return replace(whole, down=down_at, fleet=fleet_at)


def _down(which: sql.ColumnElement[bool] | None = None) -> sql.Select[Any]:
    """Return the query for the devices that are down.

    Args:
        which: Of these executions; None: of all.
    """
    of = _MAY_BE_DOWN if which is None else sql.and_(_MAY_BE_DOWN, which)
    # One row for each device: its last word is what counts, and each is looked up once.
    busy = sql.func.max(sql.case((_UNDER_WAY, 1), else_=0)).label("busy")
    left = sql.func.max(sql.case((~_UNDER_WAY, col(Execution.updated_at)))).label("left_at")
    told = (
        sql.select(col(Execution.device_id), busy, left)
        .where(of)
        .group_by(col(Execution.device_id))
        .subquery("told")
    )
    succeeded_later = sql.exists(
        sql.select(sql.literal(1))
        .select_from(_LATER)
        .where(
            _LATER.c.device_id == told.c.device_id,
            _LATER.c.state == ExecutionState.SUCCEEDED.value,
            _LATER.c.finished_at > told.c.left_at,
        )
    )
    is_left_behind = sql.and_(
        col(Device.online).is_(sql.false()),
        told.c.left_at.is_not(None),
        sql.not_(succeeded_later),
    )
    return (
        sql.select(col(Device.id))
        .join(told, told.c.device_id == col(Device.id))
        .where(_STAYS, sql.or_(told.c.busy == 1, is_left_behind))
    )


def _fleet_at(session: Session, label: str, labels: Mapping[str, str]) -> int:
    """Return how many devices have the same value of a label as `labels`.

    All are counted in an index, and those that were removed, which are few, are taken off.
    """
    value = labels.get(label, "")
    labelled = sql.select(sql.func.count()).where(col(DeviceLabel.key) == label)
    connection = session.connection()
    if value:
        found = connection.execute(labelled.where(col(DeviceLabel.value) == value)).scalar_one()
    else:
        every = connection.execute(sql.select(sql.func.count()).select_from(Device)).scalar_one()
        found = every - connection.execute(labelled).scalar_one()
    removed = sql.select(sql.func.count()).where(
        col(Device.revoked_at).is_not(None), _value_of(col(Device.id), label) == value
    )
    return found - connection.execute(removed).scalar_one()


def _down_at(session: Session, label: str, labels: Mapping[str, str], at_most: int) -> int:
    """Return how many devices with the same value of a label are down, but at most so many.

    Of a value that many have it may be more than are down, as long as it is less than that.
    """
    value = labels.get(label, "")
    of_value = sql.select(col(DeviceLabel.device_id)).where(
        col(DeviceLabel.key) == label, col(DeviceLabel.value) == value
    )
    counted = of_value.with_only_columns(sql.literal(1).label("one")).limit(_SMALL)
    few = sql.select(sql.func.count()).select_from(counted.subquery())
    if value and session.connection().execute(few).scalar_one() < _SMALL:
        ids = session.connection().execute(of_value).scalars().all()
        return min(len(among(session, ids)), at_most)
    one = sql.select(sql.literal(1).label("one"))
    could_be = _counted(session, one.select_from(Execution).where(_MAY_BE_DOWN), at_most)
    if could_be < at_most:
        return could_be
    busy = _counted(session, _busy().where(_value_of(_BUSY.c.device_id, label) == value), at_most)
    left = _left_behind(label, value)
    return busy + (_counted(session, left, at_most - busy) if busy < at_most else 0)


def _counted(session: Session, which: sql.Select[Any], at_most: int) -> int:
    counted = sql.select(sql.func.count()).select_from(which.limit(at_most).subquery())
    return session.connection().execute(counted).scalar_one()


def _busy() -> sql.Select[Any]:
    """Return the query for the devices with something under way: `_BUSY`, and 1 for each."""
    gone = sql.select(col(Device.id)).where(col(Device.revoked_at).is_not(None))
    one = sql.select(sql.literal(1).label("one")).select_from(_BUSY)
    return one.where(_BUSY.c.device_id.not_in(gone))


def _left_behind(label: str, value: str) -> sql.Select[Any]:
    """Return the query for the other devices with this value that are down: 1 for each.

    It goes through those that are offline, not through all that ever failed, which only grows.
    """
    is_busy = _COULD.c.state == ExecutionState.IN_PROGRESS.value
    left = (
        sql.select(_AWAY.c.id, sql.func.max(_COULD.c.updated_at).label("left_at"))
        .join(_COULD, _COULD.c.device_id == _AWAY.c.id)
        .group_by(_AWAY.c.id)
        .having(sql.func.max(sql.case((is_busy, 1), else_=0)) == 0)
        .subquery("behind")
    )
    succeeded_later = sql.exists(
        sql.select(sql.literal(1))
        .select_from(_LATER)
        .where(
            _LATER.c.device_id == left.c.id,
            _LATER.c.state == ExecutionState.SUCCEEDED.value,
            _LATER.c.finished_at > left.c.left_at,
        )
    )
    return (
        sql.select(sql.literal(1).label("one"))
        .select_from(left)
        .where(_value_of(left.c.id, label) == value, sql.not_(succeeded_later))
    )


def _value_of(device_id: sql.SQLColumnExpression[str], label: str) -> sql.ColumnElement[str]:
    """Return a device's value of a label, '' for none, looked up device by device.

    A subquery for one value is never made into a join, which a database without statistics of a
    label that the whole fleet has would begin at the wrong end.
    """
    of_device = sql.select(col(DeviceLabel.value)).where(
        col(DeviceLabel.device_id) == device_id, col(DeviceLabel.key) == label
    )
    return sql.func.coalesce(of_device.scalar_subquery(), "")


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
