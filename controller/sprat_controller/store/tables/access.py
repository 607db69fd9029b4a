"""Who may speak to the API, and what each was given: subjects, their roles, their tokens."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import JSON, Column, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import moment


class Subject(SQLModel, table=True):
    """Somebody who may be given something: a person or a service. Never removed, only disabled."""

    __tablename__: ClassVar[str] = "subject"
    id: str = Field(primary_key=True)  # `user:NAME` or `service:NAME`
    kind: str
    name: str
    # The person that a service acts for, for ever; None: a service of before there were owners.
    owner_id: str | None = Field(default=None, foreign_key="subject.id", index=True)
    created_at: datetime = Field(sa_column=moment())
    created_by: str
    disabled_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class CustomRole(SQLModel, table=True):
    """A role that people made, beside those of `access.policy.GRANTS`."""

    __tablename__: ClassVar[str] = "custom_role"
    name: str = Field(primary_key=True)
    permissions: list[str] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(sa_column=moment())
    created_by: str


class RoleBinding(SQLModel, table=True):
    """A subject has a role over the devices that a target filter lets in; empty: everything."""

    __tablename__: ClassVar[str] = "role_binding"
    __table_args__ = (UniqueConstraint("subject_id", "role", "scope"),)
    id: str = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id")
    role: str = Field(index=True)
    scope: str
    created_at: datetime = Field(sa_column=moment())
    created_by: str


class AccessRevision(SQLModel, table=True):
    """One row: one more with each change of subjects, roles and bindings (`access.snapshot`)."""

    __tablename__: ClassVar[str] = "access_revision"
    id: int = Field(primary_key=True)
    revision: int


class OperatorToken(SQLModel, table=True):
    """A bearer token of a subject, which allows some of what its owner may; its SHA-256 is kept."""

    __tablename__: ClassVar[str] = "operator_token"
    id: str = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", index=True)
    # Which of its owner's tokens it is, for people.
    name: str = Field(index=True)
    # The most that it allows: a role, and a target filter; empty: wherever its owner has it.
    role: str
    scope: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    secret_sha256: str = Field(unique=True)
    created_at: datetime = Field(sa_column=moment())
    # Who made it, and by which token; empty: the controller itself, or it is of before.
    made_by: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    made_with: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    # None: a token of before tokens had to end.
    expires_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    last_used_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
