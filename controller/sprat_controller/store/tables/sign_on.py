"""How people sign in: their passwords, what failed, and the sessions that came of it."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import moment


class Password(SQLModel, table=True):
    """A password that a person has or had; of one that was replaced only who had set it is kept."""

    __tablename__: ClassVar[str] = "password"
    id: str = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", index=True)
    hash: str | None = None  # with its parameters and salt, as argon2 writes it; None: replaced
    set_at: datetime = Field(sa_column=moment())
    set_by: str
    ended_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class LoginFailure(SQLModel, table=True):
    """What failed of late under a name, whether there is anybody of that name or not."""

    __tablename__: ClassVar[str] = "login_failure"
    # SHA-256 of the name: people type their password there, and it is all one length.
    name_sha256: str = Field(primary_key=True)
    failed: int
    last_at: datetime = Field(sa_column=moment(index=True))
    locked_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class LoginSession(SQLModel, table=True):
    """Somebody signed in; the SHA-256 of the secret that they show is kept."""

    __tablename__: ClassVar[str] = "login_session"
    id: str = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", index=True)
    secret_sha256: str = Field(unique=True)
    kind: str  # how it is carried: `access.sessions.Kind`
    authn: str  # how they showed who they are
    source: str  # the address that it was begun from
    created_at: datetime = Field(sa_column=moment())
    last_used_at: datetime = Field(sa_column=moment())
    expires_at: datetime = Field(sa_column=moment())
    ended_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # The provider's own session that it came of, which a logout there names; None: of none.
    provider_sid: str | None = Field(default=None, index=True)


class OidcIdentity(SQLModel, table=True):
    """Who an OpenID provider knows somebody as: by its own name for them, never by their e-mail."""

    __tablename__: ClassVar[str] = "oidc_identity"
    issuer: str = Field(primary_key=True)
    sub: str = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", unique=True)
    known_as: str  # what people call them, as the provider last said: proves nothing
    first_at: datetime = Field(sa_column=moment())
    last_at: datetime = Field(sa_column=moment())


class ProvidedRole(SQLModel, table=True):
    """A role that somebody has by their groups at a provider, while they are signed in."""

    __tablename__: ClassVar[str] = "provided_role"
    id: str = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", index=True)
    role: str
    scope: str
    since: datetime = Field(sa_column=moment())
    ends_at: datetime = Field(sa_column=moment())


class OidcAttempt(SQLModel, table=True):
    """A browser was sent to a provider; gone once it comes back, which it may do once."""

    __tablename__: ClassVar[str] = "oidc_attempt"
    state_sha256: str = Field(primary_key=True)
    browser_sha256: str
    next_path: str
    expires_at: datetime = Field(sa_column=moment(index=True))


class OidcDevice(SQLModel, table=True):
    """Somebody signs in without a browser of ours; gone once they have."""

    __tablename__: ClassVar[str] = "oidc_device"
    handle_sha256: str = Field(primary_key=True)
    # The provider's code, readable with the handle alone, which is not kept.
    sealed: bytes
    interval_s: int
    next_at: datetime = Field(sa_column=moment())  # the provider is not asked before
    expires_at: datetime = Field(sa_column=moment(index=True))


class OidcLogout(SQLModel, table=True):
    """A logout that a provider told of, for as long as somebody could tell of it again."""

    __tablename__: ClassVar[str] = "oidc_logout"
    jti_sha256: str = Field(primary_key=True)
    ends_at: datetime = Field(sa_column=moment(index=True))
