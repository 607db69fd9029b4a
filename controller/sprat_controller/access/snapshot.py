"""The policy in force: read from its rows, and kept until a row of it changes.

Each change counts `AccessRevision` up in its own transaction, and each request reads that number:
what was taken away is gone with the next request, on every replica.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Final

import sqlalchemy
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Binding, Permission, Policy
from sprat_controller.store.tables import AccessRevision, CustomRole, RoleBinding, Subject

_ONLY: Final = 1  # the id of the one row
_REVISION: Final = sqlalchemy.select(col(AccessRevision.revision)).where(
    col(AccessRevision.id) == _ONLY
)
_OWNER = aliased(Subject)
# Whoever is disabled has nothing, and neither has what acts for them.
_BINDINGS: Final = (
    sqlalchemy.select(col(RoleBinding.subject_id), col(RoleBinding.role), col(RoleBinding.scope))
    .join(Subject, col(Subject.id) == col(RoleBinding.subject_id))
    .outerjoin(_OWNER, col(_OWNER.id) == col(Subject.owner_id))
    .where(col(Subject.disabled_at).is_(None), col(_OWNER.disabled_at).is_(None))
)
_ROLES: Final = sqlalchemy.select(col(CustomRole.name), col(CustomRole.permissions))
_KNOWN: Final = frozenset(permission.value for permission in Permission)


class Policies:
    """The policy of one controller process; may be used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[int, Policy] | None = None

    def current(self, session: Session) -> Policy:
        """Return the policy as the session sees it."""
        revision = session.connection().execute(_REVISION).scalar() or 0
        kept = self._kept
        if kept is not None and kept[0] == revision:
            return kept[1]
        with self._lock:
            # Whoever waited for the lock may find that it was read meanwhile.
            if self._kept is None or self._kept[0] != revision:
                self._kept = (revision, load(session))
            return self._kept[1]


def load(session: Session) -> Policy:
    """Return the policy of the rows, those that are not committed yet included."""
    connection = session.connection()
    roles = {
        # A permission that is no more allows nothing.
        name: frozenset(Permission(one) for one in said if one in _KNOWN)
        for name, said in connection.execute(_ROLES)
    }
    rows = connection.execute(_BINDINGS)
    return Policy((Binding(subject, role, scope) for subject, role, scope in rows), roles)


def renewed(session: Session, actor: Actor) -> Actor:
    """Return who asks with what holds in this transaction, for who gives or takes away by it."""
    return replace(actor, policy=load(session))


def changed(session: Session) -> None:
    """Count a change of who may do what; to be called in the transaction that makes it."""
    counted = sqlalchemy.update(AccessRevision).where(col(AccessRevision.id) == _ONLY)
    more = counted.values(revision=col(AccessRevision.revision) + 1)
    if session.connection().execute(more).rowcount == 0:
        session.connection().execute(
            sqlalchemy.insert(AccessRevision), {"id": _ONLY, "revision": 1}
        )
