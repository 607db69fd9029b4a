"""Rollouts that are made again and again, and what came of each moment."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import Json, UtcDateTime, moment


class Recurrence(SQLModel, table=True):
    """Has the newest release of a channel rolled out, again and again."""

    __tablename__: ClassVar[str] = "recurrence"
    id: str = Field(primary_key=True)
    name: str
    model: str
    channel: str
    # When: `sprat_proto.windows` reads it.
    cron: str
    zone: str
    # As in `Rollout`, for each rollout that it creates.
    alias: str
    target: Json = Field(sa_column=Column(JSON, nullable=False))
    # `Scope.cases` of what the target can ever reach, for lists of who has some devices only.
    reach: list[list[str]] = Field(sa_column=Column(JSON, nullable=False))
    context: int
    serving: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    policy: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    strategy: Json = Field(sa_column=Column(JSON, nullable=False))
    # The next occurrence; None while it is paused, or if there is none any more.
    due_at: datetime | None = Field(default=None, sa_column=moment(nullable=True, index=True))
    paused_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    created_at: datetime = Field(sa_column=moment())
    created_by: str
    # Who changed it last; they may approve none of its rollouts either.
    edited_by: str | None = None
    # One more with each change by a person: who changes it may name the one that was looked at.
    revision: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    # As in `Rollout`: which controller works on what is due.
    lease_owner: str | None = None
    lease_number: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    lease_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class Occurrence(SQLModel, table=True):
    """What came of one moment at which a recurrence was due: a rollout, or why there is none.

    Its key is why no moment is ever worked on twice. It outlives the recurrence, as rollouts do.
    """

    __tablename__: ClassVar[str] = "occurrence"
    recurrence_id: str = Field(primary_key=True)
    due_at: datetime = Field(sa_column=Column(UtcDateTime(), primary_key=True))
    decided_at: datetime = Field(sa_column=moment())
    # The newest in the channel; None: it was empty.
    release: str | None = None
    # Exactly one of the two; a reason is {"code", "message", "expected", "found"}.
    rollout_id: str | None = Field(default=None, foreign_key="rollout.id", unique=True)
    reason: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
