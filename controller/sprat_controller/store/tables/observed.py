"""What devices told about the models that they run."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import Int64, moment


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
    told_at: datetime = Field(sa_column=moment())


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
    told_at: datetime = Field(sa_column=moment())
