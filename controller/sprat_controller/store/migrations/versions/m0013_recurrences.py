"""What is rolled out from a channel again and again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Nothing recurs yet."""
    op.create_table(
        "recurrence",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("target", sa.JSON(), nullable=False),
        sa.Column("context", sa.Integer(), nullable=False),
        sa.Column("serving", sa.JSON(), nullable=True),
        sa.Column("policy", sa.JSON(), nullable=True),
        sa.Column("strategy", sa.JSON(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=True),
        sa.Column("paused_at", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_number", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("lease_until", sa.DateTime(), nullable=True),
    )
    op.create_index("ix_recurrence_due_at", "recurrence", ["due_at"])
    op.create_table(
        "occurrence",
        sa.Column("recurrence_id", sa.String(), primary_key=True),
        sa.Column("due_at", sa.DateTime(), primary_key=True),
        sa.Column("decided_at", sa.DateTime(), nullable=False),
        sa.Column("release", sa.String(), nullable=True),
        sa.Column("rollout_id", sa.String(), sa.ForeignKey("rollout.id"), nullable=True),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.UniqueConstraint("rollout_id"),
    )
