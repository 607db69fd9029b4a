"""Users and service accounts, roles, and who has which."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, status

from sprat_controller.access import grants, identities, persons, provided, roles, scopes, subjects
from sprat_controller.access.actor import Actor, SubjectKind
from sprat_controller.access.policy import GRANTS, Permission
from sprat_controller.api import access_schema as schema
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import DatabasePart, IdsPart, Now
from sprat_controller.store.tables import (
    CustomRole,
    OidcIdentity,
    ProvidedRole,
    RoleBinding,
    Subject,
)

router = APIRouter(tags=["users"])
Reader = Annotated[Actor, Depends(require(Permission.READ_USERS))]
Manager = Annotated[Actor, Depends(require(Permission.MANAGE_USERS))]
RoleMaker = Annotated[Actor, Depends(require(Permission.MANAGE_ROLES))]
OfSubject = Annotated[schema.SubjectName | None, Query(description="Only those of this one")]


@router.get("/users")
def list_users(_: Reader, database: DatabasePart) -> schema.SubjectPage:
    """All users and service accounts, by id."""
    with database.reading() as session:
        rows, known = subjects.every(session), identities.every(session)
    return schema.SubjectPage(items=[_subject(row, known.get(row.id)) for row in rows])


@router.post(
    "/users", status_code=status.HTTP_201_CREATED, responses=error_answers(400, 404, 409, 413)
)
def create_user(
    body: schema.SubjectRequest, actor: Manager, database: DatabasePart, ids: IdsPart, now: Now
) -> schema.Subject:
    """Make a user, or a service account that acts for whom makes it."""
    scope = scopes.read(body.scope)
    with database.transaction() as session:
        is_service = body.kind is SubjectKind.SERVICE
        owner = persons.person(session, actor.subject) if is_service else None
        by = actor.audit_name
        row = subjects.create(session, body.kind, body.name, owner=owner, actor=by, now=now)
        if body.role is not None:
            wanted = grants.Wanted(row.id, body.role, scope)
            grants.grant(session, wanted, actor=actor, now=now, binding_id=ids.new_id())
    return schema.Subject.model_validate(row)


@router.post("/users/{user}/disable", responses=error_answers(404, 409))
def disable_user(user: str, actor: Manager, database: DatabasePart, now: Now) -> schema.Subject:
    """Take away all that somebody may, at once, and what services may that act for them."""
    with database.transaction() as session:
        row = subjects.disable(session, user, actor=actor, now=now)
        return _subject(row, identities.of(session, row.id))


@router.post("/users/{user}/enable", responses=error_answers(404))
def enable_user(user: str, actor: Manager, database: DatabasePart, now: Now) -> schema.Subject:
    """Give somebody back what they were given."""
    with database.transaction() as session:
        row = subjects.enable(session, user, actor=actor, now=now)
        return _subject(row, identities.of(session, row.id))


@router.get("/roles")
def list_roles(_: Reader, database: DatabasePart) -> schema.RolePage:
    """All roles and what they allow, those that are there from the start first."""
    with database.reading() as session:
        rows = roles.every(session)
    built_in = [
        schema.Role(name=name, permissions=sorted(permissions), built_in=True)
        for name, permissions in GRANTS.items()
    ]
    return schema.RolePage(items=[*built_in, *(_role(row) for row in rows)])


@router.post("/roles", status_code=status.HTTP_201_CREATED, responses=error_answers(400, 409, 413))
def create_role(
    body: schema.RoleRequest, actor: RoleMaker, database: DatabasePart, now: Now
) -> schema.Role:
    """Make a role of permissions that one holds oneself, over everything."""
    allowed = frozenset(body.permissions)
    with database.transaction() as session:
        return _role(roles.create(session, body.name, allowed, actor=actor, now=now))


@router.patch("/roles/{role}", responses=error_answers(400, 404, 413))
def change_role(
    role: str, body: schema.RoleChange, actor: RoleMaker, database: DatabasePart, now: Now
) -> schema.Role:
    """Replace what a role allows, for all who have it."""
    allowed = frozenset(body.permissions)
    with database.transaction() as session:
        return _role(roles.change(session, role, allowed, actor=actor, now=now))


@router.delete(
    "/roles/{role}", status_code=status.HTTP_204_NO_CONTENT, responses=error_answers(404, 409)
)
def remove_role(role: str, actor: RoleMaker, database: DatabasePart, now: Now) -> None:
    """Remove a role that nobody has."""
    with database.transaction() as session:
        roles.remove(session, role, actor=actor, now=now)


@router.get("/bindings", responses=error_answers(404))
def list_bindings(
    _: Reader, database: DatabasePart, now: Now, subject: OfSubject = None
) -> schema.BindingPage:
    """Who has which role over which devices: what people gave, then what groups give."""
    with database.reading() as session:
        rows = grants.every(session, subject)
        known = None if subject is None else subjects.find(session, subject).id
        more = provided.every(session, now, known)
    items = [*(_binding(row) for row in rows), *(_provided(row) for row in more)]
    return schema.BindingPage(items=items)


@router.post(
    "/bindings", status_code=status.HTTP_201_CREATED, responses=error_answers(400, 404, 409, 413)
)
def grant_role(
    body: schema.BindingRequest, actor: Manager, database: DatabasePart, ids: IdsPart, now: Now
) -> schema.Binding:
    """Give somebody a role, within what one holds it over oneself."""
    wanted = grants.Wanted(body.subject, body.role, scopes.read(body.scope))
    with database.transaction() as session:
        row = grants.grant(session, wanted, actor=actor, now=now, binding_id=ids.new_id())
    return _binding(row)


@router.delete(
    "/bindings/{binding_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=error_answers(404, 409),
)
def take_role(binding_id: str, actor: Manager, database: DatabasePart, now: Now) -> None:
    """Take a role away, at once."""
    with database.transaction() as session:
        grants.take(session, binding_id, actor=actor, now=now)


def _subject(row: Subject, identity: OidcIdentity | None) -> schema.Subject:
    found = schema.Subject.model_validate(row)
    if identity is None:
        return found
    return found.model_copy(update={"issuer": identity.issuer, "known_as": identity.known_as})


def _provided(row: ProvidedRole) -> schema.Binding:
    return schema.Binding(
        id=row.id,
        subject=row.subject_id,
        role=row.role,
        scope=row.scope,
        created_at=row.since,
        created_by="provider",
        ends_at=row.ends_at,
    )


def _role(row: CustomRole) -> schema.Role:
    return schema.Role(name=row.name, permissions=row.permissions, built_in=False)


def _binding(row: RoleBinding) -> schema.Binding:
    return schema.Binding(
        id=row.id,
        subject=row.subject_id,
        role=row.role,
        scope=row.scope,
        created_at=row.created_at,
        created_by=row.created_by,
    )
