"""People and services: making them, disabling them, and what keeps a controller from losing all.

A subject is never removed and its name never given anew: the audit log and the rows of rollouts
name it for ever. A service acts for the person who made it, for ever: for four eyes it is them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

from sprat_controller.access import provided, scopes, snapshot
from sprat_controller.access.actor import Actor, SubjectKind, subject_of
from sprat_controller.access.policy import Role
from sprat_controller.audit import changes, log
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.store.tables import RoleBinding, Subject


def create(
    session: Session, kind: SubjectKind, name: str, *, owner: str | None, actor: str, now: datetime
) -> Subject:
    """Add a subject that may do nothing yet.

    Args:
        session: An open `Database.transaction()`.
        kind: What it is.
        name: For people and for ever; no two subjects of any kind share one.
        owner: The person that a service acts for; None for a person.
        actor: Who makes it, as it stands in the audit log.
        now: The caller's clock.

    Raises:
        ConflictError: `name_taken`.
    """
    taken = session.exec(select(Subject).where(Subject.name == name)).first()
    if taken is not None:
        raise ConflictError(
            "name_taken",
            f"there is {taken.id} already, and a name is never given anew: choose another",
        )
    row = Subject(
        id=subject_of(kind, name),
        kind=kind.value,
        name=name,
        owner_id=owner,
        created_at=now,
        created_by=actor,
    )
    session.add(row)
    session.flush()
    snapshot.changed(session)
    detail = {"before": {}, "after": _state(row)}
    log.append(
        session,
        Tag.USER_CREATED,
        at=now,
        actor=actor,
        subject=f"subject/{row.id}",
        after=changes.digest(_state(row)),
        detail=detail,
    )
    return row


def find(session: Session, subject: str) -> Subject:
    """Return a subject by its id or, without a kind, by its name.

    Raises:
        NotFoundError: `user_not_found`.
    """
    known = col(Subject.id) == subject if ":" in subject else col(Subject.name) == subject
    row = session.exec(select(Subject).where(known)).first()
    if row is None:
        raise NotFoundError("user_not_found", f"there is no user or service {subject!r}")
    return row


def every(session: Session) -> Sequence[Subject]:
    """Return all subjects, by id."""
    return session.exec(select(Subject).order_by(col(Subject.id))).all()


def disable(session: Session, subject: str, *, actor: Actor, now: datetime) -> Subject:
    """Take away all that a subject may, at once; what it was given comes back if it is enabled.

    What services of a person may is taken away with it.

    Raises:
        NotFoundError: No such subject.
        DeniedError: `cannot_grant`: it may do what the actor may not, or a service of it may.
        ConflictError: `last_administrator`.
    """
    return _set(session, subject, now, actor=actor, now=now)


def enable(session: Session, subject: str, *, actor: Actor | None, now: datetime) -> Subject:
    """Give a subject back what it was given; `actor` None: the controller itself does.

    Raises:
        NotFoundError: No such subject.
        DeniedError: `cannot_grant`: it would be able to do what the actor may not.
    """
    return _set(session, subject, None, actor=actor, now=now)


def check_administrator(session: Session) -> None:
    """Refuse a change after which nobody could give anything any more; call it after the change.

    Raises:
        ConflictError: `last_administrator`.
    """
    if not snapshot.load(session, None).subjects_with(Role.ADMIN):
        raise ConflictError(
            "last_administrator",
            "expected somebody to be left who is admin over everything, found nobody: make"
            " somebody else an administrator first",
        )


def bindings(session: Session, subject: str) -> Sequence[RoleBinding]:
    """Return what a subject was given, in the order of giving."""
    order = (col(RoleBinding.created_at), col(RoleBinding.id))
    found = select(RoleBinding).where(RoleBinding.subject_id == subject).order_by(*order)
    return session.exec(found).all()


def check_reach(session: Session, subject: str, actor: Actor, now: datetime) -> None:
    """Let only those change a subject who hold all that it was given.

    Raises:
        DeniedError: `cannot_grant`.
    """
    who = snapshot.renewed(session, actor, now)
    for row in (*bindings(session, subject), *provided.every(session, now, subject)):
        who.check_holds(who.policy.permissions_of(row.role), scopes.read(row.scope))


def _set(
    session: Session,
    subject: str,
    disabled_at: datetime | None,
    *,
    actor: Actor | None,
    now: datetime,
) -> Subject:
    row = find(session, subject)
    if (row.disabled_at is None) == (disabled_at is None):
        return row
    if actor is not None:
        for one in (row.id, *_acting_for(session, row.id)):
            check_reach(session, one, actor, now)
    before = _state(row)
    row.disabled_at = disabled_at
    session.add(row)
    session.flush()
    if disabled_at is not None:
        check_administrator(session)
    snapshot.changed(session)
    log.append(
        session,
        Tag.USER_ENABLED if disabled_at is None else Tag.USER_DISABLED,
        at=now,
        actor=actor.audit_name if actor else "controller",
        subject=f"subject/{row.id}",
        before=changes.digest(before),
        after=changes.digest(_state(row)),
        detail={"before": before, "after": _state(row)},
    )
    return row


def _acting_for(session: Session, subject: str) -> Sequence[str]:
    """Return the services that can do something with a person, and nothing without."""
    found = select(Subject.id).where(
        Subject.owner_id == subject, col(Subject.disabled_at).is_(None)
    )
    return session.exec(found).all()


def _state(row: Subject) -> dict[str, object]:
    """Return what the audit log keeps of a subject."""
    return {
        "owner": row.owner_id or "",
        "disabled": row.disabled_at is not None,
    }
