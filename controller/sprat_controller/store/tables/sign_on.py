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
