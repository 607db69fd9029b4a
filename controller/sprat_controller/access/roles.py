"""Roles that people make: named sets of permissions. Nobody makes one of what they do not hold.

A role may be bound to anybody over anything later, so who makes or widens it must hold each of its
permissions over everything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

from sprat_controller.access import snapshot
from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import GRANTS, Permission
from sprat_controller.access.scopes import EVERYTHING
from sprat_controller.audit import changes, log
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.store.tables import CustomRole, OperatorToken, ProvidedRole, RoleBinding

MAX_ROLES: Final = 1000


def every(session: Session) -> Sequence[CustomRole]:
    """Return all roles that people made, by name."""
    return session.exec(select(CustomRole).order_by(col(CustomRole.name))).all()


def create(
    session: Session,
    name: str,
    permissions: Collection[Permission],
    *,
    actor: Actor,
    now: datetime,
) -> CustomRole:
    """Add a role.

    Raises:
        ConflictError: `name_taken`, or there are too many.
        RequestError: It would allow nothing.
        DeniedError: `cannot_grant`.
    """
    rows = every(session)
    if name in GRANTS or any(row.name == name for row in rows):
        raise ConflictError("name_taken", f"there is a role {name!r} already: choose another name")
    if len(rows) >= MAX_ROLES:
        raise ConflictError(
            "too_many_roles", f"expected at most {MAX_ROLES} roles, found them: remove some first"
        )
    said = _checked(permissions, snapshot.renewed(session, actor, now))
    row = CustomRole(name=name, permissions=said, created_at=now, created_by=actor.audit_name)
    session.add(row)
    _changed(session, Tag.ROLE_CREATED, row, (), actor, now)
    return row


def change(
    session: Session,
    name: str,
    permissions: Collection[Permission],
    *,
    actor: Actor,
    now: datetime,
) -> CustomRole:
    """Replace what a role allows, for all who have it, at once.

    Raises:
        NotFoundError: There is no such role of one's own.
        RequestError: It would allow nothing.
        DeniedError: `cannot_grant`: of what it allows, or of what it allowed.
    """
    row = _found(session, name)
    before = tuple(row.permissions)
    maker = snapshot.renewed(session, actor, now)
    maker.check_holds((Permission(one) for one in before), EVERYTHING)
    row.permissions = _checked(permissions, maker)
    session.add(row)
    _changed(session, Tag.ROLE_CHANGED, row, before, actor, now)
    return row


def remove(session: Session, name: str, *, actor: Actor, now: datetime) -> None:
    """Remove a role that nobody has.

    Raises:
        NotFoundError: There is no such role of one's own.
        ConflictError: `role_in_use`: somebody has it, a token has, or groups give it.
    """
    row = _found(session, name)
    bound = session.exec(select(RoleBinding.subject_id).where(RoleBinding.role == name)).first()
    alive = (OperatorToken.role == name, col(OperatorToken.revoked_at).is_(None))
    token = session.exec(select(OperatorToken.subject_id).where(*alive)).first()
    held = (ProvidedRole.role == name, col(ProvidedRole.ends_at) > now)
    provided = session.exec(select(ProvidedRole.subject_id).where(*held)).first()
    if bound or token or provided:
        raise ConflictError(
            "role_in_use",
            f"{bound or token or provided} has the role {name}: take it away there first",
        )
    before = tuple(row.permissions)
    session.delete(row)
    row.permissions = []
    _changed(session, Tag.ROLE_REMOVED, row, before, actor, now)


def _checked(permissions: Collection[Permission], actor: Actor) -> list[str]:
    if not permissions:
        raise RequestError("empty_role", "expected at least one permission in a role, found none")
    actor.check_holds(permissions, EVERYTHING)
    return sorted(permission.value for permission in permissions)


def _found(session: Session, name: str) -> CustomRole:
    row = session.get(CustomRole, name)
    if row is None:
        built_in = " that can be changed" if name in GRANTS else ""
        raise NotFoundError("role_not_found", f"there is no role {name!r}{built_in}")
    return row


def _changed(  # noqa: PLR0917 - the same six each time
    session: Session,
    tag: Tag,
    row: CustomRole,
    before: Sequence[str],
    actor: Actor,
    now: datetime,
) -> None:
    session.flush()
    snapshot.changed(session)
    log.append(
        session,
        tag,
        at=now,
        actor=actor.audit_name,
        subject=f"role/{row.name}",
        before=changes.digest(list(before)) if before else None,
        after=changes.digest(list(row.permissions)) if row.permissions else None,
        detail={"before": list(before), "after": list(row.permissions)},
    )
