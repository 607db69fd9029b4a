"""What devices refuse by their own facts, and how fast they were seen to answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Executions from before were tried once."""
    op.add_column(
        "execution", sa.Column("attempt", sa.Integer(), nullable=False, server_default="1")
    )
    op.create_table(
        "observed_rate",
        sa.Column("device_id", sa.String(), sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("digest", sa.String(), sa.ForeignKey("variant.digest"), primary_key=True),
        sa.Column("hardware_class", sa.String(), nullable=False),
        sa.Column("decode_milli_tps", sa.Integer(), nullable=False),
        sa.Column("prefill_milli_tps", sa.Integer(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("told_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_observed_rate_class", "observed_rate", ["hardware_class", "digest"])
