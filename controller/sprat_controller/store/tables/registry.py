"""Models: blobs, releases, their variants and channels."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import Column, ForeignKeyConstraint, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import Int64, moment


class Blob(SQLModel, table=True):
    """A whole, verified blob in the blob store."""

    __tablename__: ClassVar[str] = "blob"
    sha256: str = Field(primary_key=True)
    size: int = Field(sa_type=Int64)
    created_at: datetime = Field(sa_column=moment())


class Release(SQLModel, table=True):
    """A version of a model."""

    __tablename__: ClassVar[str] = "release"
    __table_args__ = (UniqueConstraint("model", "counter"),)
    model: str = Field(primary_key=True)
    release: str = Field(primary_key=True)
    counter: int = Field(sa_type=Int64)
    created_at: datetime = Field(sa_column=moment())
    pushed_by: str
    # Its publisher withdrew it: devices that run it go on, and no other gets it.
    retired_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class Variant(SQLModel, table=True):
    """One form of a release; the digest of its manifest is its identity."""

    __tablename__: ClassVar[str] = "variant"
    __table_args__ = (UniqueConstraint("model", "release", "variant"),)
    digest: str = Field(primary_key=True)
    model: str = Field(index=True)
    release: str
    variant: str
    # The manifest's canonical bytes: a target of the publisher's role.
    manifest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    publisher: str = Field(foreign_key="publisher.name")


class ChannelRelease(SQLModel, table=True):
    """A release that was put in a channel of its model, such as `stable`."""

    __tablename__: ClassVar[str] = "channel_release"
    __table_args__ = (
        ForeignKeyConstraint(["model", "release"], ["release.model", "release.release"]),
    )
    model: str = Field(primary_key=True)
    channel: str = Field(primary_key=True)
    release: str = Field(primary_key=True)
    put_at: datetime = Field(sa_column=moment())
    put_by: str
