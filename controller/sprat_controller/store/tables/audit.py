"""Both kinds of audit log: the controller's own, and what devices sent of theirs."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

from sqlalchemy import Column, LargeBinary, text
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import Int64, moment, partial

# Of a record that has not expired.
HAS_BODY: Final = "length(body) > 0"


class AuditRecord(SQLModel, table=True):
    """One line of the controller's own audit log; triggers refuse UPDATE and DELETE.

    But for what expired: its body and all that is copied out of it are empty, but for `at`.
    """

    __tablename__: ClassVar[str] = "audit_record"
    __table_args__ = (
        partial("ix_audit_record_device", ("device_id", "seq"), "device_id IS NOT NULL"),
        partial("ix_audit_record_rollout", ("rollout_id", "seq"), "rollout_id IS NOT NULL"),
        partial("ix_audit_record_kept", ("at",), HAS_BODY),
    )
    seq: int = Field(primary_key=True, sa_type=Int64)
    # Canonical JSON, and the hash of its leaf in the log's tree, in hex.
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hash: str
    # Copies out of the body for filters.
    at: datetime = Field(sa_column=moment(index=True))
    actor: str = Field(index=True)
    tag: str = Field(index=True)
    subject: str = Field(index=True)
    # Which device and which rollout it is about; None: no one in particular.
    device_id: str | None = None
    rollout_id: str | None = None


class AuditHead(SQLModel, table=True):
    """The one row that says how long the controller's log is, and what appending to it needs."""

    __tablename__: ClassVar[str] = "audit_head"
    id: int = Field(primary_key=True, sa_type=Int64)  # 1
    size: int = Field(sa_type=Int64)
    # `merkle.Frontier` of that size, as bytes.
    frontier: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class AuditSubtree(SQLModel, table=True):
    """The root of a complete subtree of 256**level records; as append-only as they are."""

    __tablename__: ClassVar[str] = "audit_subtree"
    level: int = Field(primary_key=True, sa_type=Int64)  # from 1
    index: int = Field(primary_key=True, sa_type=Int64)  # among those of its level
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class AuditCheckpoint(SQLModel, table=True):
    """What the signer signed of the controller's log; as append-only as it is."""

    __tablename__: ClassVar[str] = "audit_checkpoint"
    size: int = Field(primary_key=True, sa_type=Int64)
    # A C2SP checkpoint with the log's own signature.
    note: str
    made_at: datetime = Field(sa_column=moment())


class AuditCosignature(SQLModel, table=True):
    """The word of a witness about a checkpoint; the newest of each for it."""

    __tablename__: ClassVar[str] = "audit_cosignature"
    size: int = Field(primary_key=True, sa_type=Int64)
    witness: str = Field(primary_key=True)  # its vkey
    line: str  # as it stands in a note
    received_at: datetime = Field(sa_column=moment())


class AuditForwarding(SQLModel, table=True):
    """How far a receiver elsewhere has the controller's log, and which controller sends it on."""

    __tablename__: ClassVar[str] = "audit_forwarding"
    destination: str = Field(primary_key=True)
    seq: int = Field(default=0, sa_type=Int64, sa_column_kwargs={"server_default": "0"})
    sent_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    owner: str | None = None
    claimed_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class AuditForwardingDevice(SQLModel, table=True):
    """How far a receiver elsewhere has a device's own log."""

    __tablename__: ClassVar[str] = "audit_forwarding_device"
    destination: str = Field(primary_key=True)
    device_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=Int64)
    sent_at: datetime = Field(sa_column=moment())


class AuditRetention(SQLModel, table=True):
    """How long records are kept; without a row for all tags, for ever."""

    __tablename__: ClassVar[str] = "audit_retention"
    tag: str = Field(primary_key=True)  # empty: those of all tags that have no row of their own
    days: int | None  # None: for ever
    reason: str  # why it is shorter than the law asks for, if it is
    set_at: datetime = Field(sa_column=moment())
    set_by: str


class AuditHold(SQLModel, table=True):
    """Records that do not expire while it is not released: those that meet all of it."""

    __tablename__: ClassVar[str] = "audit_hold"
    id: str = Field(primary_key=True)
    device_id: str | None = None
    rollout_id: str | None = None
    since: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    reason: str
    added_at: datetime = Field(sa_column=moment())
    added_by: str
    released_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    released_by: str | None = None


class AuditExpiry(SQLModel, table=True):
    """Which records have expired, and which record of the controller's log says so.

    The triggers of both logs let bodies of these be erased, and of no others.
    """

    __tablename__: ClassVar[str] = "audit_expiry"
    device_id: str = Field(primary_key=True)  # empty: the controller's own log
    first_seq: int = Field(primary_key=True, sa_type=Int64)
    last_seq: int = Field(sa_type=Int64)
    seq: int = Field(index=True, sa_type=Int64)


class DeviceAuditRecord(SQLModel, table=True):
    """One record of a device's own audit log, as it arrived; triggers refuse UPDATE and DELETE.

    But for what expired: its body and its tag are empty.
    """

    __tablename__: ClassVar[str] = "device_audit_record"
    __table_args__ = (partial("ix_device_audit_record_kept", ("received_at",), HAS_BODY),)
    device_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=Int64)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    # Of the leaf, hex.
    hash: str
    # A copy out of the body.
    tag: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    # None of a record that was chained, before logs were sealed.
    seal: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    received_at: datetime = Field(sa_column=moment())
