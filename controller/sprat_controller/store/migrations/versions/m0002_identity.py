"""Claims for batches, identity keys, renewed certificates, quarantine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make claims anew: what was handed out before knows nothing of identity keys."""
    op.drop_table("enrolment_token")
    _claims()
    _devices()


def _claims() -> None:
    op.create_table(
        "enrolment_token",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("device_id", sa.String(), nullable=True),
        sa.Column("prefix", sa.String(), nullable=True),
        sa.Column("secret_sha256", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("hardware_id", sa.String(), nullable=True),
        sa.Column("grace_days", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("used_at", sa.DateTime(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.UniqueConstraint("secret_sha256"),
    )
    op.create_index("ix_enrolment_token_device_id", "enrolment_token", ["device_id"])
    op.create_table(
        "enrolment_redemption",
        sa.Column("token_id", sa.String(), sa.ForeignKey("enrolment_token.id"), primary_key=True),
        sa.Column("identity_key_sha256", sa.String(), primary_key=True),
        sa.Column("tls_key_sha256", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("chain_pem", sa.String(), nullable=False),
        sa.Column("redeemed_at", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("device_id"),
    )


def _devices() -> None:
    """Columns that must be set have no default: a device of before would be one without a key."""
    with op.batch_alter_table("device") as device:
        for name in ("group", "identity_key", "hardware_id", "serial", "chain_pem"):
            device.add_column(sa.Column(name, sa.String(), nullable=False))
        device.add_column(sa.Column("grace_days", sa.Integer(), nullable=False))
        device.add_column(sa.Column("may_renew_from_any", sa.Boolean(), nullable=False))
        for name in ("certificate_ends_at", "newest_used_at", "quarantined_at"):
            device.add_column(sa.Column(name, sa.DateTime(), nullable=True))
        device.add_column(sa.Column("quarantine_reason", sa.String(), nullable=True))
    op.create_table(
        "device_certificate",
        sa.Column("device_id", sa.String(), sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("serial", sa.String(), primary_key=True),
        sa.Column("follows", sa.String(), nullable=True),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("issued_at", sa.DateTime(), nullable=False),
        sa.Column("ends_at", sa.DateTime(), nullable=False),
    )
