"""Giving a subject a role over some devices, and taking it away.

Nobody gives what they do not hold: what is given is what was asked for, within what the giver holds
it over. And nobody takes away what they could not give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

from sprat_controller.access import scopes, snapshot, subjects
from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Policy
from sprat_controller.access.scopes import Scope
from sprat_controller.audit import changes, log
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.store.tables import ProvidedRole, RoleBinding

_CONTROLLER: Final = "controller"


@dataclass(frozen=True)
class Wanted:
    """A role over devices, for somebody."""

    subject: str
    role: str
    scope: Scope


def every(session: Session, subject: str | None = None) -> Sequence[RoleBinding]:
    """Return all bindings, or those of a subject, in the order of giving."""
    if subject is not None:
        return subjects.bindings(session, subjects.find(session, subject).id)
    order = (col(RoleBinding.created_at), col(RoleBinding.id))
    return session.exec(select(RoleBinding).order_by(*order)).all()


def check_role(policy: Policy, role: str) -> None:
    """Check that there is such a role.

    Raises:
        NotFoundError: `role_not_found`.
    """
    if not policy.permissions_of(role):
        raise NotFoundError(
            "role_not_found", f"there is no role {role!r}: `sprat roles list` tells which there are"
        )


def grant(
    session: Session, wanted: Wanted, *, actor: Actor | None, now: datetime, binding_id: str
) -> RoleBinding:
    """Give a subject a role.

    Args:
        session: An open `Database.transaction()`.
        wanted: What; its scope is narrowed to what the actor holds the role's permissions over.
        actor: Who gives it; None: the controller itself, which may give anything.
        now: The caller's clock.
        binding_id: Of the row.

    Raises:
        NotFoundError: No such subject or role.
        DeniedError: `cannot_grant`.
        ConflictError: `granted_already`.
        RequestError: `bad_scope`: it is too long, together with the giver's.
    """
    policy = snapshot.load(session, now)
    check_role(policy, wanted.role)
    row = subjects.find(session, wanted.subject)
    given, by = wanted.scope, _CONTROLLER
    if actor is not None:
        giver = snapshot.renewed(session, actor, now)
        given, by = giver.grantable(policy.permissions_of(wanted.role), given), actor.audit_name
    scope = scopes.read(given.text).text
    same = select(RoleBinding).where(
        RoleBinding.subject_id == row.id,
        RoleBinding.role == wanted.role,
        RoleBinding.scope == scope,
    )
    if session.exec(same).first() is not None:
        raise ConflictError(
            "granted_already",
            f"{row.id} is {wanted.role} over {scope or 'everything'} already",
        )
    binding = RoleBinding(
        id=binding_id,
        subject_id=row.id,
        role=wanted.role,
        scope=scope,
        created_at=now,
        created_by=by,
    )
    session.add(binding)
    session.flush()
    snapshot.changed(session)
    _record(session, Tag.ROLE_GRANTED, binding, by, now)
    return binding


def take(session: Session, binding_id: str, *, actor: Actor, now: datetime) -> None:
    """Take a role away, at once.

    Raises:
        NotFoundError: No such binding.
        DeniedError: `cannot_grant`: the actor does not hold it all.
        ConflictError: `last_administrator`.
    """
    row = session.get(RoleBinding, binding_id)
    if row is None and session.get(ProvidedRole, binding_id) is not None:
        raise ConflictError(
            "given_by_groups",
            "expected a role that people gave, found one by groups at the provider: change them"
            " there, or disable whom they are of",
        )
    if row is None:
        raise NotFoundError("binding_not_found", f"there is no binding with the id {binding_id!r}")
    taker = snapshot.renewed(session, actor, now)
    taker.check_holds(taker.policy.permissions_of(row.role), scopes.read(row.scope))
    session.delete(row)
    session.flush()
    subjects.check_administrator(session)
    snapshot.changed(session)
    _record(session, Tag.ROLE_TAKEN, row, actor.audit_name, now)


def _state(row: RoleBinding) -> dict[str, object]:
    return {"role": row.role, "scope": row.scope}


def _record(session: Session, tag: Tag, row: RoleBinding, by: str, now: datetime) -> None:
    is_given, state = tag is Tag.ROLE_GRANTED, _state(row)
    log.append(
        session,
        tag,
        at=now,
        actor=by,
        subject=f"subject/{row.subject_id}",
        before=None if is_given else changes.digest(state),
        after=changes.digest(state) if is_given else None,
        detail={
            "binding": row.id,
            "before": {} if is_given else state,
            "after": state if is_given else {},
        },
    )
