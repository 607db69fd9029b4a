"""Who may speak to the API: tokens of people and services."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import moment


class OperatorToken(SQLModel, table=True):
    """A person's or service's bearer token; only its SHA-256 is kept."""

    __tablename__: ClassVar[str] = "operator_token"
    id: str = Field(primary_key=True)
    name: str = Field(index=True)
    role: str
    secret_sha256: str = Field(unique=True)
    created_at: datetime = Field(sa_column=moment())
    expires_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    last_used_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
