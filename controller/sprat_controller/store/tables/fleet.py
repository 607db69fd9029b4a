"""Devices: who they are, what they should run, and the plan that they are given."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

from sqlalchemy import JSON, Column, ForeignKey, Index, LargeBinary, String, text
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import Int64, Json, moment, partial

# Of a device: it is in the fleet, and not connected. Asked in these very words, it is a look-up by
# `ix_device_offline`.
OFFLINE: Final = "NOT online AND revoked_at IS NULL"


class Device(SQLModel, table=True):
    """A device as the controller knows it."""

    __tablename__: ClassVar[str] = "device"
    __table_args__ = (
        partial("ix_device_revoked", ("id",), "revoked_at IS NOT NULL"),
        partial("ix_device_offline", ("id",), OFFLINE),
    )
    id: str = Field(primary_key=True)
    state: str = Field(index=True)
    # Pinned at enrolment, on both sides.
    group: str = "default"
    # What vouches for each new TLS key, PEM; and the hardware that the device said it is.
    identity_key: str = ""
    hardware_id: str = ""
    # What seals its audit log: the key of its checkpoints, PEM, and what its seals begin with.
    audit_key: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    audit_seed: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    grace_days: int = 0
    # The newest certificate: SHA-256 of its public key, serial (hex), end, and its chain in PEM.
    key_sha256: str
    serial: str = ""
    certificate_ends_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    chain_pem: str = ""
    # Once the newest was used, an older one is a copy's: it is refused.
    newest_used_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    # In quarantine it may speak and upload audit, and gets no plan, until a person releases it.
    quarantined_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    quarantine_reason: str | None = None
    # A person has said that the next renewal may follow any certificate of this device.
    may_renew_from_any: bool = False
    enrolled_at: datetime = Field(sa_column=moment())
    revoked_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    last_seen_at: datetime | None = Field(default=None, sa_column=moment(nullable=True, index=True))
    online: bool = False
    carrier: str | None = None
    capability: int = 0
    agent_version: str = ""
    boot_id: str = ""
    # The ids of starts that spoke before this one, each with when it first gave way to another, in
    # unix seconds; and where a record came that is kept as another one, until the log that is kept
    # goes on (`link.copies`).
    former_boots: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    audit_forked_at: int | None = Field(default=None, sa_type=Int64)
    # As the device told it (`sprat_proto.fit.Profile` as JSON); None until the first Hello.
    profile: Json | None = Field(default=None, sa_column=Column(JSON))
    hardware_class: str | None = Field(default=None, index=True)
    simulated: bool = False
    # What the device said it obeys, and what it runs: list of RunningModel as JSON, by alias.
    obeyed_version: int = Field(default=0, sa_type=Int64)
    running: Json = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    # Highest report and audit position that are kept.
    report_seq: int = Field(default=0, sa_type=Int64)
    audit_seq: int = Field(default=0, sa_type=Int64)
    # The end of its audit log as it is kept: the tree's frontier, and the key of the seals there.
    audit_frontier: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    audit_epoch: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    audit_epoch_key: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    # When the newest record came, and the device's own checkpoint of it, a signed note.
    audit_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    audit_checkpoint: str | None = None
    # Digest by alias, as it was explained last, and what runs instead without a word
    # (`link.fallbacks`); None: nothing.
    accounted: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    fallbacks: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # Its retries were used up: until then no rollout starts on it.
    penalty_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class DeviceCertificate(SQLModel, table=True):
    """A certificate that a device had; kept until long after its end, to know a copy by it."""

    __tablename__: ClassVar[str] = "device_certificate"
    device_id: str = Field(foreign_key="device.id", primary_key=True)
    serial: str = Field(primary_key=True)
    # Of the certificate that it followed; None for the one of the enrolment.
    follows: str | None = None
    key_sha256: str
    issued_at: datetime = Field(sa_column=moment())
    ends_at: datetime = Field(sa_column=moment())


class DeviceLabel(SQLModel, table=True):
    """A label that people set; a side table, so that a filter by any key is an index look-up."""

    __tablename__: ClassVar[str] = "device_label"
    __table_args__ = (Index("ix_device_label_pair", "key", "value"),)
    device_id: str = Field(
        sa_column=Column(String, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True)
    )
    key: str = Field(primary_key=True)
    value: str


class DesiredModel(SQLModel, table=True):
    """What a device should run under an alias; the next assignment is made from these rows."""

    __tablename__: ClassVar[str] = "desired_model"
    device_id: str = Field(foreign_key="device.id", primary_key=True)
    alias: str = Field(primary_key=True)
    digest: str = Field(foreign_key="variant.digest")
    execution_id: str
    rollout_id: str
    context: int


class AssignmentRow(SQLModel, table=True):
    """The newest plan of each device: its assignment, signed as director metadata."""

    __tablename__: ClassVar[str] = "assignment"
    device_id: str = Field(foreign_key="device.id", primary_key=True)
    version: int = Field(sa_type=Int64)
    issued_at: datetime = Field(sa_column=moment())
    # TUF version of the three, and of the director's root when they were signed.
    director_version: int = Field(sa_type=Int64)
    root_version: int = Field(sa_type=Int64)
    targets: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    snapshot: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    timestamp: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
