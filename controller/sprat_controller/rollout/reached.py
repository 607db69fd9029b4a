"""Whether a rollout is there for somebody: seen by one of its devices, changed by who sees all."""

from __future__ import annotations

import sqlalchemy
from sqlmodel import Session, col

from sprat_controller.access import within
from sprat_controller.access.scopes import Scope
from sprat_controller.errors import DeniedError, NotFoundError
from sprat_controller.fleet.filters.queries import Condition
from sprat_controller.store.tables import Rollout


def seen(session: Session, rollout: Rollout | None, rollout_id: str, scope: Scope) -> Rollout:
    """Return the rollout if it has a device in the scope.

    Raises:
        NotFoundError: It has none, or there is no such rollout: the two look the same.
    """
    if rollout is None or not _holds(session, rollout, within.sees(session, scope, _ID), scope):
        raise NotFoundError("rollout_not_found", f"there is no rollout {rollout_id!r}")
    return rollout


def whole(session: Session, rollout: Rollout | None, rollout_id: str, scope: Scope) -> Rollout:
    """Return the rollout if all of its devices are in the scope.

    Raises:
        NotFoundError: None of them is, or there is no such rollout.
        DeniedError: `outside_scope`: some are.
    """
    found = seen(session, rollout, rollout_id, scope)
    if not _holds(session, found, within.has_all(session, scope, _ID), scope):
        raise DeniedError(
            "outside_scope",
            f"rollout {rollout_id} is also for devices outside of {scope.text}: only who may touch"
            " all of them may do this",
        )
    return found


_ID = col(Rollout.id)


def _holds(session: Session, rollout: Rollout, condition: Condition, scope: Scope) -> bool:
    if scope.is_everything:
        return True
    found = sqlalchemy.select(_ID).where(col(Rollout.id) == rollout.id, condition)
    return session.connection().execute(found).first() is not None
