"""The policy in force: read from its rows, and kept until a row of it changes.

Each change counts `AccessRevision` up in its own transaction, and each request reads that number:
what was taken away is gone with the next request, on every replica. What somebody has by their
groups at a provider ends by itself, so a policy is one of a moment.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import sqlalchemy
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Binding, Permission, Policy
from sprat_controller.store.tables import (
    AccessRevision,
    CustomRole,
    ProvidedRole,
    RoleBinding,
    Subject,
    UtcDateTime,
)

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
_PROVIDED: Final = (
    sqlalchemy.select(
        col(ProvidedRole.subject_id),
        col(ProvidedRole.role),
        col(ProvidedRole.scope),
        col(ProvidedRole.ends_at),
    )
    .join(Subject, col(Subject.id) == col(ProvidedRole.subject_id))
    .where(
        col(Subject.disabled_at).is_(None),
        col(ProvidedRole.ends_at) > sqlalchemy.bindparam("now", type_=UtcDateTime()),
    )
)
_ROLES: Final = sqlalchemy.select(col(CustomRole.name), col(CustomRole.permissions))
_KNOWN: Final = frozenset(permission.value for permission in Permission)


class Policies:
    """The policy of one controller process; may be used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def current(self, session: Session, now: datetime) -> Policy:
        """Return the policy as the session sees it."""
        revision = session.connection().execute(_REVISION).scalar() or 0
        kept = self._kept
        if kept is not None and kept.holds(revision, now):
            return kept.policy
        with self._lock:
            # Whoever waited for the lock may find that it was read meanwhile.
            if self._kept is None or not self._kept.holds(revision, now):
                policy, ends_at = _read(session, now)
                self._kept = _Kept(revision, ends_at, policy)
            return self._kept.policy


@dataclass(frozen=True)
class _Kept:
    """A policy, and until when it holds while nothing is changed; None: for ever."""

    revision: int
    ends_at: datetime | None
    policy: Policy

    def holds(self, revision: int, now: datetime) -> bool:
        return self.revision == revision and (self.ends_at is None or now < self.ends_at)


def load(session: Session, now: datetime | None) -> Policy:
    """Return the policy of the rows, those that are not committed yet included.

    Args:
        session: Of the database.
        now: The caller's clock; None: without what ends by itself.
    """
    return _read(session, now)[0]


def _read(session: Session, now: datetime | None) -> tuple[Policy, datetime | None]:
    """Return the policy, and when the first of it ends by itself."""
    connection = session.connection()
    roles = {
        # A permission that is no more allows nothing.
        name: frozenset(Permission(one) for one in said if one in _KNOWN)
        for name, said in connection.execute(_ROLES)
    }
    bindings = [Binding(*row) for row in connection.execute(_BINDINGS)]
    ends: list[datetime] = []
    if now is not None:
        for subject, role, scope, ends_at in connection.execute(_PROVIDED, {"now": now}):
            bindings.append(Binding(subject, role, scope))
            ends.append(ends_at)
    return Policy(bindings, roles), min(ends, default=None)


def renewed(session: Session, actor: Actor, now: datetime) -> Actor:
    """Return who asks with what holds in this transaction, for who gives or takes away by it."""
    return replace(actor, policy=load(session, now))


def changed(session: Session) -> None:
    """Count a change of who may do what; to be called in the transaction that makes it."""
    counted = sqlalchemy.update(AccessRevision).where(col(AccessRevision.id) == _ONLY)
    more = counted.values(revision=col(AccessRevision.revision) + 1)
    if session.connection().execute(more).rowcount == 0:
        session.connection().execute(
            sqlalchemy.insert(AccessRevision), {"id": _ONLY, "revision": 1}
        )
