"""The tables. They are not messages: `api/schema.py` and the protobuf are two other shapes.

Names of states are the strings of `sprat_proto.states`. JSON columns are replaced, never changed in
place (SQLAlchemy would not notice). Moments are UTC.
"""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Final, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

Json = dict[str, Any]


class Int64(TypeDecorator[int]):
    """A whole number of up to 63 bits; SQLite's all are, PostgreSQL's INTEGER has 31."""

    impl = Integer
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[int]:
        """Return what the database calls it."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BigInteger())


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite has no time zones: everywhere it is stored without, read with one."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive moments, store UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("expected a moment with a time zone, found a naive one")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


def of(row: type[SQLModel]) -> Table:
    """Return the table of a kind of row, for statements about any of several tables."""
    return SQLModel.metadata.tables[cast("Any", row).__tablename__]


def _moment(*, nullable: bool = False, index: bool = False) -> Column[datetime]:
    return Column(UtcDateTime(), nullable=nullable, index=index)


def _partial(name: str, columns: tuple[str, ...], where: str) -> Index:
    """Return an index of the rows that meet a condition only."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


# Of an execution: its device may be down because of it (`rollout.unavailable`). Asked in these very
# words, it is a look-up by `ix_execution_down`: `|| ''` keeps SQLite from an index by state, which
# holds all that is queued and whose rows it would have to read.
MAY_BE_DOWN: Final = (
    "started_at IS NOT NULL AND state || '' IN"
    " ('IN_PROGRESS', 'QUEUED', 'FAILED', 'TIMED_OUT', 'ROLLED_BACK', 'CANCELED')"
)


class OperatorToken(SQLModel, table=True):
    """A person's or service's bearer token; only its SHA-256 is kept."""

    __tablename__: ClassVar[str] = "operator_token"
    id: str = Field(primary_key=True)
    name: str = Field(index=True)
    role: str
    secret_sha256: str = Field(unique=True)
    created_at: datetime = Field(sa_column=_moment())
    expires_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    last_used_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


class EnrolmentToken(SQLModel, table=True):
    """A claim for one device or for a batch; names come from here, never from a CSR."""

    __tablename__: ClassVar[str] = "enrolment_token"
    id: str = Field(primary_key=True)
    # Exactly one of the two: the name of the one device, or what the names of a batch begin with.
    device_id: str | None = Field(default=None, index=True)
    prefix: str | None = None
    secret_sha256: str = Field(unique=True)
    # How many devices may redeem it, how many did, and the highest number that a name got.
    count: int
    used: int = 0
    last_number: int = 0
    labels: Json = Field(sa_column=Column(JSON, nullable=False))
    group: str
    # A device of other hardware is refused; None: any.
    hardware_id: str | None = None
    # How late its devices may renew without an operator's click.
    grace_days: int
    created_at: datetime = Field(sa_column=_moment())
    created_by: str
    expires_at: datetime = Field(sa_column=_moment())
    # Of the last redemption.
    used_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


class EnrolmentRedemption(SQLModel, table=True):
    """One use of a claim: the same keys may ask again after a lost reply, and get the same."""

    __tablename__: ClassVar[str] = "enrolment_redemption"
    token_id: str = Field(foreign_key="enrolment_token.id", primary_key=True)
    identity_key_sha256: str = Field(primary_key=True)
    tls_key_sha256: str
    device_id: str = Field(unique=True)
    chain_pem: str
    redeemed_at: datetime = Field(sa_column=_moment())


class Device(SQLModel, table=True):
    """A device as the controller knows it."""

    __tablename__: ClassVar[str] = "device"
    __table_args__ = (_partial("ix_device_revoked", ("id",), "revoked_at IS NOT NULL"),)
    id: str = Field(primary_key=True)
    state: str = Field(index=True)
    # Pinned at enrolment, on both sides.
    group: str = "default"
    # What vouches for each new TLS key, PEM; and the hardware that the device said it is.
    identity_key: str = ""
    hardware_id: str = ""
    grace_days: int = 0
    # The newest certificate: SHA-256 of its public key, serial (hex), end, and its chain in PEM.
    key_sha256: str
    serial: str = ""
    certificate_ends_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    chain_pem: str = ""
    # Once the newest was used, an older one is a copy's: it is refused.
    newest_used_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    # In quarantine it may speak and upload audit, and gets no plan, until a person releases it.
    quarantined_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    quarantine_reason: str | None = None
    # A person has said that the next renewal may follow any certificate of this device.
    may_renew_from_any: bool = False
    enrolled_at: datetime = Field(sa_column=_moment())
    revoked_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    last_seen_at: datetime | None = Field(
        default=None, sa_column=_moment(nullable=True, index=True)
    )
    online: bool = False
    carrier: str | None = None
    capability: int = 0
    agent_version: str = ""
    boot_id: str = ""
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
    audit_hash: str = ""
    # Digest by alias, as it was explained last, and what runs instead without a word
    # (`link.fallbacks`); None: nothing.
    accounted: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    fallbacks: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # Its retries were used up: until then no rollout starts on it.
    penalty_until: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


class DeviceCertificate(SQLModel, table=True):
    """A certificate that a device had; kept until long after its end, to know a copy by it."""

    __tablename__: ClassVar[str] = "device_certificate"
    device_id: str = Field(foreign_key="device.id", primary_key=True)
    serial: str = Field(primary_key=True)
    # Of the certificate that it followed; None for the one of the enrolment.
    follows: str | None = None
    key_sha256: str
    issued_at: datetime = Field(sa_column=_moment())
    ends_at: datetime = Field(sa_column=_moment())


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
    issued_at: datetime = Field(sa_column=_moment())
    # TUF version of the three, and of the director's root when they were signed.
    director_version: int = Field(sa_type=Int64)
    root_version: int = Field(sa_type=Int64)
    targets: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    snapshot: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    timestamp: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


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
    created_at: datetime = Field(sa_column=_moment())


class Blob(SQLModel, table=True):
    """A whole, verified blob in the blob store."""

    __tablename__: ClassVar[str] = "blob"
    sha256: str = Field(primary_key=True)
    size: int = Field(sa_type=Int64)
    created_at: datetime = Field(sa_column=_moment())


class Release(SQLModel, table=True):
    """A version of a model."""

    __tablename__: ClassVar[str] = "release"
    __table_args__ = (UniqueConstraint("model", "counter"),)
    model: str = Field(primary_key=True)
    release: str = Field(primary_key=True)
    counter: int = Field(sa_type=Int64)
    created_at: datetime = Field(sa_column=_moment())
    pushed_by: str
    # Its publisher withdrew it: devices that run it go on, and no other gets it.
    retired_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


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
    put_at: datetime = Field(sa_column=_moment())
    put_by: str


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
    context: int
    serving: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    policy: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    strategy: Json = Field(sa_column=Column(JSON, nullable=False))
    # The next occurrence; None while it is paused, or if there is none any more.
    due_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True, index=True))
    paused_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    created_at: datetime = Field(sa_column=_moment())
    created_by: str
    # As in `Rollout`: which controller works on what is due.
    lease_owner: str | None = None
    lease_number: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    lease_until: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


class Occurrence(SQLModel, table=True):
    """What came of one moment at which a recurrence was due: a rollout, or why there is none.

    Its key is why no moment is ever worked on twice. It outlives the recurrence, as rollouts do.
    """

    __tablename__: ClassVar[str] = "occurrence"
    recurrence_id: str = Field(primary_key=True)
    due_at: datetime = Field(sa_column=Column(UtcDateTime(), primary_key=True))
    decided_at: datetime = Field(sa_column=_moment())
    # The newest in the channel; None: it was empty.
    release: str | None = None
    # Exactly one of the two; a reason is {"code", "message", "expected", "found"}.
    rollout_id: str | None = Field(default=None, foreign_key="rollout.id", unique=True)
    reason: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


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
    due_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True, index=True))
    start_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    max_in_progress: int
    execution_timeout_s: int
    # After this moment devices no longer run what it brought; None: for ever.
    run_until: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    created_at: datetime = Field(sa_column=_moment())
    created_by: str
    started_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    finished_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    # Who changed it last, after it was created.
    edited_by: str | None = None
    # What approvers approve, frozen when it was submitted: `sprat_proto.approval.RolloutSpec`.
    spec: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    # Which controller works on it when it is due, and until when others leave it alone; the number
    # of the claim (`schedule.leases`).
    lease_owner: str | None = None
    lease_number: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    lease_until: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
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
    started_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    # It is watched until then before it is FINISHED.
    soak_until: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    finished_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    # What its gate said last, and why.
    verdict: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # The person who said that the next group may start.
    promoted_by: str | None = None
    promoted_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


class SavedPlan(SQLModel, table=True):
    """A plan of a rollout as it was shown, to be carried out so or not at all."""

    __tablename__: ClassVar[str] = "saved_plan"
    id: str = Field(primary_key=True)
    asked: Json = Field(sa_column=Column(JSON, nullable=False))  # what and to whom
    strategy: Json = Field(sa_column=Column(JSON, nullable=False))
    # Canonical JSON of `saved_plans.Line`s.
    lines: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    made_at: datetime = Field(sa_column=_moment(index=True))
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
    given_at: datetime = Field(sa_column=_moment())


class Execution(SQLModel, table=True):
    """One device's run of a rollout."""

    __tablename__: ClassVar[str] = "execution"
    __table_args__ = (
        UniqueConstraint("rollout_id", "device_id"),
        Index("ix_execution_queue", "rollout_id", "state", "position"),
        _partial(
            "ix_execution_excused",
            ("rollout_id", "group_number", "state", "excused_at"),
            "excused_at IS NOT NULL",
        ),
        _partial(
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
    created_at: datetime = Field(sa_column=_moment())
    started_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    deadline_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    updated_at: datetime = Field(sa_column=_moment())
    finished_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    # `rollout_group.number`.
    group_number: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    # How often it was tried again, and when the next try may be given out.
    tries: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    retry_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    # Since when it is at `step`.
    step_since: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    # Of the device when it was planned: gates judge each class by itself.
    hardware_class: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    # The device's label "site" when it was planned.
    site: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    # Since when its silent device counts no more; None: it counts.
    excused_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    # The rollout takes back, or took back, what the device had from it.
    is_reverting: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    # What the device's probe measured, by the names of `probes.ProbeResult`.
    probe: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


class ObservedRate(SQLModel, table=True):
    """How fast a device answered real requests with a variant, as it told last."""

    __tablename__: ClassVar[str] = "observed_rate"
    __table_args__ = (Index("ix_observed_rate_class", "hardware_class", "digest"),)
    device_id: str = Field(foreign_key="device.id", primary_key=True)
    digest: str = Field(foreign_key="variant.digest", primary_key=True)
    # Of the device when it told.
    hardware_class: str
    # Medians over so many answers, in thousandths of a token a second; 0: not yet.
    decode_milli_tps: int
    prefill_milli_tps: int
    samples: int
    told_at: datetime = Field(sa_column=_moment())


class ObservedMetric(SQLModel, table=True):
    """What requests and a probe showed of a variant on a device, as it told last; 0: not yet."""

    __tablename__: ClassVar[str] = "observed_metric"
    __table_args__ = (Index("ix_observed_metric_class", "alias", "hardware_class"),)
    device_id: str = Field(foreign_key="device.id", primary_key=True)
    digest: str = Field(foreign_key="variant.digest", primary_key=True)
    alias: str
    # Of the device when it told; empty: not known.
    hardware_class: str
    # Seconds since the agent took it on; requests are of that time, or, while none came in it, of
    # the one before.
    window_s: int = Field(sa_type=Int64)
    requests: int = Field(sa_type=Int64)
    errors: int = Field(sa_type=Int64)
    decode_milli_tps: int
    ttft_p95_ms: int
    peak_bytes: int = Field(sa_type=Int64)
    declared_bytes: int = Field(sa_type=Int64)
    # Of its workers, ever; and how often the device went back from it without a word.
    crashes: int
    fallbacks: int
    # The probe's: prompts asked, and what it measured.
    prompts: int
    score_permille: int
    probed_decode_milli_tps: int
    probed_ttft_ms: int
    told_at: datetime = Field(sa_column=_moment())


class AuditRecord(SQLModel, table=True):
    """One line of the controller's own audit log; triggers refuse UPDATE and DELETE."""

    __tablename__: ClassVar[str] = "audit_record"
    __table_args__ = (
        _partial("ix_audit_record_device", ("device_id", "seq"), "device_id IS NOT NULL"),
        _partial("ix_audit_record_rollout", ("rollout_id", "seq"), "rollout_id IS NOT NULL"),
    )
    seq: int = Field(primary_key=True, sa_type=Int64)
    # Canonical JSON, and SHA-256(previous record's hash || body) in hex.
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hash: str
    # Copies out of the body for filters.
    at: datetime = Field(sa_column=_moment(index=True))
    actor: str = Field(index=True)
    tag: str = Field(index=True)
    subject: str = Field(index=True)
    # Which device and which rollout it is about; None: no one in particular.
    device_id: str | None = None
    rollout_id: str | None = None


class DeviceAuditRecord(SQLModel, table=True):
    """One record of a device's own audit log, as it arrived; triggers refuse UPDATE and DELETE."""

    __tablename__: ClassVar[str] = "device_audit_record"
    device_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=Int64)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hash: str
    received_at: datetime = Field(sa_column=_moment())
