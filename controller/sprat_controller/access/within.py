"""A scope asked of the database: conditions by which lists and counts hold only what is in it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlmodel import Session, col

from sprat_controller.access.scopes import Scope
from sprat_controller.fleet.filters import queries
from sprat_controller.fleet.filters.queries import Condition
from sprat_controller.store.tables import AuditRecord, Device, Execution

_EXECUTIONS = Execution.metadata.tables["execution"]
_DEVICES = Device.metadata.tables["device"]


def devices(session: Session, scope: Scope) -> Condition:
    """Return the condition on rows of `Device` that is true of those in the scope."""
    return sql.true() if scope.is_everything else queries.where(session, scope.tree)


def names(session: Session, scope: Scope) -> sql.Select[Any]:
    """Return the query of the names of the devices in the scope."""
    return sql.select(col(Device.id)).where(devices(session, scope)).correlate(None)


def executions(session: Session, scope: Scope) -> Condition:
    """Return the condition on rows of `Execution` that is true of those of devices in the scope."""
    if scope.is_everything:
        return sql.true()
    return col(Execution.device_id).in_(names(session, scope))


def sees(session: Session, scope: Scope, rollout_id: Any) -> Condition:
    """Return whether a rollout has a device in the scope: it may be seen, as far as that goes."""
    if scope.is_everything:
        return sql.true()
    return sql.exists(_of_rollout(rollout_id).where(executions(session, scope)))


def has_all(session: Session, scope: Scope, rollout_id: Any) -> Condition:
    """Return whether a rollout has devices in the scope only: it may be touched, and seen whole."""
    if scope.is_everything:
        return sql.true()
    outside = sql.not_(executions(session, scope))
    return sql.and_(
        sees(session, scope, rollout_id),
        sql.not_(sql.exists(_of_rollout(rollout_id).where(outside))),
    )


def records(session: Session, scope: Scope) -> Condition:
    """Return the condition on rows of `AuditRecord` that is true of those that may be seen.

    A record of a device is seen with the device; one of a rollout alone only by who sees all of it,
    since it may name any of its devices; one of neither by nobody whose scope is not everything.
    """
    if scope.is_everything:
        return sql.true()
    device_id, rollout_id = col(AuditRecord.device_id), col(AuditRecord.rollout_id)
    return sql.or_(
        device_id.in_(names(session, scope)),
        sql.and_(
            device_id.is_(None),
            rollout_id.is_not(None),
            has_all(session, scope, rollout_id),
        ),
    )


def _of_rollout(rollout_id: Any) -> sql.Select[Any]:
    found = sql.select(sql.literal(1)).select_from(_EXECUTIONS)
    return found.where(_EXECUTIONS.c.rollout_id == rollout_id).correlate_except(
        _EXECUTIONS, _DEVICES
    )
