"""The shapes of users, roles, bindings and tokens."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AwareDatetime, Field, StringConstraints

from sprat_controller.access.actor import DEFAULT_LIFETIME, MAX_LIFETIME, SubjectKind
from sprat_controller.access.policy import About, Permission
from sprat_controller.api.schema import Accepted, Answered
from sprat_controller.fleet.filters.tokens import MAX_LENGTH

_MAX_PERMISSIONS: Final = len(Permission)
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
# `user:NAME`, `service:NAME` or a name alone.
SubjectName = Annotated[
    str, StringConstraints(pattern=r"^((user|service):)?[a-z0-9][a-z0-9._-]{0,63}$")
]
Scope = Annotated[
    str,
    Field(
        max_length=MAX_LENGTH,
        description="A filter over device, group, site and label.KEY; empty: everything",
    ),
]


class Held(Answered):
    """What somebody may do, and to which devices."""

    permission: Permission
    about: About
    scope: str = Field(description="A filter; empty: everything")


class RoleOver(Answered):
    """A role, and the devices it is over."""

    role: str
    scope: str


class WhoAmI(Answered):
    """Who shows this token or session, and what both together allow."""

    subject: str
    name: str
    roles: list[RoleOver] = Field(description="Of the subject")
    token: str = Field(description="Id of the token or session that was shown")
    token_role: str = Field(description="The most that the token allows; empty: all of it")
    token_scope: str
    authn: str = Field(description="How they showed who they are")
    csrf: str | None = Field(description="What x-sprat-csrf must say; None: not by cookie")
    permissions: list[Held] = Field(description="Of the token and the subject together")


class SubjectRequest(Accepted):
    """A user or a service account to make."""

    name: Name
    kind: SubjectKind = SubjectKind.USER
    role: Name | None = Field(default=None, description="One to begin with")
    scope: Scope = ""


class Subject(Answered):
    """A user or a service account."""

    id: str
    kind: SubjectKind
    name: str
    owner_id: str | None = Field(description="Whom a service acts for")
    created_at: AwareDatetime
    created_by: str
    disabled_at: AwareDatetime | None
    issuer: str | None = Field(default=None, description="The provider that they sign in at")
    known_as: str | None = Field(default=None, description="What it calls them; proves nothing")


class SubjectPage(Answered):
    """All of them."""

    items: list[Subject]
    next: None = None


class RoleRequest(Accepted):
    """A role to make."""

    name: Name
    permissions: Annotated[list[Permission], Field(min_length=1, max_length=_MAX_PERMISSIONS)]


class RoleChange(Accepted):
    """What a role is to allow instead."""

    permissions: Annotated[list[Permission], Field(min_length=1, max_length=_MAX_PERMISSIONS)]


class Role(Answered):
    """A role."""

    name: str
    permissions: list[str]
    built_in: bool


class RolePage(Answered):
    """All of them, those that are there from the start first."""

    items: list[Role]
    next: None = None


class BindingRequest(Accepted):
    """A role to give to somebody."""

    subject: SubjectName
    role: Name
    scope: Scope = ""


class Binding(Answered):
    """A role that somebody was given; its scope is within what the giver had."""

    id: str
    subject: str
    role: str
    scope: str
    created_at: AwareDatetime
    created_by: str
    ends_at: AwareDatetime | None = Field(
        default=None, description="Of what groups at a provider give: when it ends by itself"
    )


class BindingPage(Answered):
    """All of them, in the order of giving."""

    items: list[Binding]
    next: None = None


class TokenRequest(Accepted):
    """A token to make."""

    name: Name
    role: Name = Field(description="The most that it allows, of what its owner may")
    scope: Scope = ""
    subject: SubjectName | None = Field(default=None, description="Whose; none: one's own")
    expires_days: Annotated[int, Field(ge=1, le=MAX_LIFETIME.days)] = DEFAULT_LIFETIME.days


class Token(Answered):
    """A token without its secret."""

    id: str
    subject_id: str
    name: str
    role: str
    scope: str
    created_at: AwareDatetime
    made_by: str
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class NewToken(Token):
    """A token with its secret, this once."""

    token: str


class TokenPage(Answered):
    """All tokens."""

    items: list[Token]
    next: None = None
