"""How a device becomes known: claims, and what was redeemed with them."""

# SQLModel declares __tablename__ as a computed attribute; naming it is its documented use.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

from sprat_controller.store.tables.columns import Json, moment


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
    created_at: datetime = Field(sa_column=moment())
    created_by: str
    expires_at: datetime = Field(sa_column=moment())
    # Of the last redemption.
    used_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class EnrolmentRedemption(SQLModel, table=True):
    """One use of a claim: the same keys may ask again after a lost reply, and get the same."""

    __tablename__: ClassVar[str] = "enrolment_redemption"
    token_id: str = Field(foreign_key="enrolment_token.id", primary_key=True)
    identity_key_sha256: str = Field(primary_key=True)
    tls_key_sha256: str
    device_id: str = Field(unique=True)
    chain_pem: str
    redeemed_at: datetime = Field(sa_column=moment())
