"""What is served of the TUF repositories, and to whom they delegate."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import JSON, Column, LargeBinary
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import Int64, moment


class TrustMetadata(SQLModel, table=True):
    """A file of a TUF repository as it is served; of timestamps only the newest is kept."""

    __tablename__: ClassVar[str] = "trust_metadata"
    repository: str = Field(primary_key=True)
    role: str = Field(primary_key=True)
    version: int = Field(primary_key=True, sa_type=Int64)
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Publisher(SQLModel, table=True):
    """Whom the image repository's top-level targets delegate to; copied out of them for lists."""

    __tablename__: ClassVar[str] = "publisher"
    name: str = Field(primary_key=True)
    key_ids: list[str] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(sa_column=moment())
