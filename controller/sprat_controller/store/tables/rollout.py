"""Rollouts: their groups, plans, approvals, and one execution for each device."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

from sqlalchemy import JSON, Column, Index, LargeBinary, UniqueConstraint, false, text
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import Json, moment, partial

# Of an execution: its device may be down because of it (`rollout.unavailable`). Asked in these very
# words, it is a look-up by `ix_execution_down`: `|| ''` keeps SQLite from an index by state, which
# holds all that is queued and whose rows it would have to read.
MAY_BE_DOWN: Final = (
    "started_at IS NOT NULL AND state || '' IN"
    " ('IN_PROGRESS', 'QUEUED', 'FAILED', 'TIMED_OUT', 'ROLLED_BACK', 'CANCELED')"
)


class Rollout(SQLModel, table=True):
    """A campaign: one release to many devices."""

    __tablename__: ClassVar[str] = "rollout"
    id: str = Field(primary_key=True)
    name: str
    model: str
    release: str
    alias: str
    # {"labels": {key: value}, "devices": [ids]}; SNAPSHOT: expanded when the rollout is created.
    target: Json = Field(sa_column=Column(JSON, nullable=False))
    context: int
    # `sprat_proto.assignment.ServingTerms`; None: as each device decides.
    serving: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # `sprat_proto.policy.FitPolicy`; None: the release's own.
    policy: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    state: str = Field(index=True)
    # The scheduler's truth: when something must be decided next; None when nothing waits for time.
    due_at: datetime | None = Field(default=None, sa_column=moment(nullable=True, index=True))
    start_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    max_in_progress: int
    execution_timeout_s: int
    # After this moment devices no longer run what it brought; None: for ever.
    run_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    created_at: datetime = Field(sa_column=moment())
    created_by: str
    started_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    finished_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # Who changed it last, after it was created.
    edited_by: str | None = None
    # What approvers approve, frozen when it was submitted: `sprat_proto.approval.RolloutSpec`.
    spec: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    # `rollout.approval_override.Override`: who let that specification go without approvals; None:
    # nobody. An edit removes it as it removes approvals.
    approval_override: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # Which controller works on it when it is due, and until when others leave it alone; the number
    # of the claim (`schedule.leases`).
    lease_owner: str | None = None
    lease_number: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    lease_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # One more with each change of its state and each change by a person: who changes it may name
    # the revision that was looked at.
    revision: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    # `strategy.Strategy`, frozen; None in rows of before: all at once, at the pace above.
    strategy: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # Which criterion held or ended it: {"criterion", "group", "failures", "judged", "at"}, and
    # from when a person resumed it what counted till then: {"since"}.
    abort: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # A copy out of the strategy, to compare rollouts that want the same device.
    priority: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


class RolloutGroup(SQLModel, table=True):
    """A slice of a rollout's devices; every rollout has at least one."""

    __tablename__: ClassVar[str] = "rollout_group"
    rollout_id: str = Field(foreign_key="rollout.id", primary_key=True)
    number: int = Field(primary_key=True)  # from 0: index into the groups of the strategy
    name: str
    state: str
    devices: int  # how many were in it when the rollout was created
    started_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # It is watched until then before it is FINISHED.
    soak_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    finished_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # What its gate said last, and why.
    verdict: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # The person who said that the next group may start.
    promoted_by: str | None = None
    promoted_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class SavedPlan(SQLModel, table=True):
    """A plan of a rollout as it was shown, to be carried out so or not at all."""

    __tablename__: ClassVar[str] = "saved_plan"
    id: str = Field(primary_key=True)
    asked: Json = Field(sa_column=Column(JSON, nullable=False))  # what and to whom
    # `Scope.cases` of what the target can ever reach, for lists of who has some devices only.
    reach: list[list[str]] = Field(sa_column=Column(JSON, nullable=False))
    strategy: Json = Field(sa_column=Column(JSON, nullable=False))
    # Canonical JSON of `saved_plans.Line`s.
    lines: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    made_at: datetime = Field(sa_column=moment(index=True))
    made_by: str


class RolloutApproval(SQLModel, table=True):
    """One approval of a rollout's frozen specification; any edit removes them all."""

    __tablename__: ClassVar[str] = "rollout_approval"
    rollout_id: str = Field(foreign_key="rollout.id", primary_key=True)
    actor: str = Field(primary_key=True)
    # Whose key signed it, and the DSSE envelope; empty where no signature was asked for.
    approver: str
    key_id: str
    envelope: str
    given_at: datetime = Field(sa_column=moment())


class Execution(SQLModel, table=True):
    """One device's run of a rollout."""

    __tablename__: ClassVar[str] = "execution"
    __table_args__ = (
        UniqueConstraint("rollout_id", "device_id"),
        Index("ix_execution_queue", "rollout_id", "state", "position"),
        partial(
            "ix_execution_excused",
            ("rollout_id", "group_number", "state", "excused_at"),
            "excused_at IS NOT NULL",
        ),
        partial(
            "ix_execution_down", ("device_id", "state", "updated_at", "started_at"), MAY_BE_DOWN
        ),
        Index("ix_execution_group", "rollout_id", "group_number", "state"),
        Index("ix_execution_started", "rollout_id", "started_at"),
        Index("ix_execution_state_device", "state", "device_id"),
    )
    id: str = Field(primary_key=True)
    rollout_id: str = Field(foreign_key="rollout.id")
    device_id: str = Field(foreign_key="device.id", index=True)
    # Order of starting within the rollout.
    position: int
    state: str
    step: str | None = None
    # The chosen variant; None when none fits (state REJECTED).
    digest: str | None = Field(default=None, foreign_key="variant.digest")
    # Which of its choices this is: one more for each variant that the device itself refused.
    attempt: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    # Why this variant and not the others: list of verdicts as JSON. Those of the device itself
    # are never judged again.
    verdicts: list[Json] = Field(sa_column=Column(JSON, nullable=False))
    # {"code", "message", "expected", "found"} once something is to be said.
    reason: Json | None = Field(default=None, sa_column=Column(JSON))
    created_at: datetime = Field(sa_column=moment())
    started_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    deadline_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    updated_at: datetime = Field(sa_column=moment())
    finished_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # `rollout_group.number`.
    group_number: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    # How often it was tried again, and when the next try may be given out.
    tries: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    retry_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # Since when it is at `step`.
    step_since: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # Of the device when it was planned: gates judge each class by itself.
    hardware_class: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    # The device's label "site" when it was planned.
    site: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    # Since when its silent device counts no more; None: it counts.
    excused_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # The rollout takes back, or took back, what the device had from it.
    is_reverting: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    # What the device's probe measured, by the names of `probes.ProbeResult`.
    probe: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
