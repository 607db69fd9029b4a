"""A scope asked of the database: conditions by which lists and counts hold only what is in it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlmodel import Session, col

from sprat_controller.access.scopes import Scope, in_cases
from sprat_controller.fleet.filters import queries
from sprat_controller.fleet.filters.queries import Condition
from sprat_controller.fleet.filters.tree import And, Or, Tree
from sprat_controller.store.tables import AuditRecord, Device, EnrolmentToken, Execution

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


def reaches(session: Session, scope: Scope, cases: Any) -> Condition:
    """Return whether what can ever be reached is in the scope, as `Scope.contains_cases` says it.

    Args:
        session: Its database says how JSON is asked.
        scope: Of whoever asks.
        cases: A column with the `Scope.cases` of what can be reached.
    """
    if scope.is_everything:
        return sql.true()
    case = queries.elements(session, cases)
    outside = sql.not_(_follows(session, scope.tree, case.c.value))
    return sql.not_(sql.exists(sql.select(sql.literal(1)).select_from(case).where(outside)))


def enrolments(session: Session, scope: Scope) -> Condition:
    """Return the condition on rows of `EnrolmentToken` whose devices will all be in the scope.

    The names of a batch are not known: it is in no scope that asks for names.
    """
    if scope.is_everything:
        return sql.true()
    found = queries.where_to_be(session, scope.tree)
    if scope.asks_names:
        return sql.and_(col(EnrolmentToken.device_id).is_not(None), found)
    return found


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


def concerning(session: Session, some: Scope) -> Condition:
    """Return the condition on rows of `AuditRecord` that is true of what concerns some devices.

    That is what is about one of them, about a rollout that has one of them, and about releases.
    What may be seen is another question: `records`.
    """
    device_id, rollout_id = col(AuditRecord.device_id), col(AuditRecord.rollout_id)
    return sql.or_(
        device_id.in_(names(session, some)),
        sql.and_(device_id.is_(None), rollout_id.is_not(None), sees(session, some, rollout_id)),
        col(AuditRecord.subject).startswith("release/"),
    )


def _of_rollout(rollout_id: Any) -> sql.Select[Any]:
    found = sql.select(sql.literal(1)).select_from(_EXECUTIONS)
    return found.where(_EXECUTIONS.c.rollout_id == rollout_id).correlate_except(
        _EXECUTIONS, _DEVICES
    )


def _follows(session: Session, tree: Tree, case: Any) -> Condition:
    """Return what `scopes` says of the filter and of a case, which is a list of texts in JSON."""
    if isinstance(tree, And):
        return sql.and_(sql.true(), *(_follows(session, term, case) for term in tree.terms))
    # All that stands on its own is looked for in one go.
    terms = tree.terms if isinstance(tree, Or) else ()
    texts = [in_cases(tree), *(in_cases(term) for term in terms if not isinstance(term, And))]
    said_in = queries.elements(session, case, as_text=True)
    is_one = sql.select(sql.literal(1)).select_from(said_in).where(said_in.c.value.in_(texts))
    others = (_follows(session, term, case) for term in terms if isinstance(term, And))
    return sql.or_(sql.exists(is_one), *others)
