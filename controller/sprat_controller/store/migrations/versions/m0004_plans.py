"""Plans as director metadata, and rollouts whose models run until a moment only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make plans anew: what was signed before is of no use to any agent."""
    op.drop_table("assignment")
    op.create_table(
        "assignment",
        sa.Column("device_id", sa.String(), sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("version", _INT64, nullable=False),
        sa.Column("issued_at", sa.DateTime(), nullable=False),
        sa.Column("director_version", _INT64, nullable=False),
        sa.Column("root_version", _INT64, nullable=False),
        sa.Column("targets", sa.LargeBinary(), nullable=False),
        sa.Column("snapshot", sa.LargeBinary(), nullable=False),
        sa.Column("timestamp", sa.LargeBinary(), nullable=False),
    )
    op.add_column("rollout", sa.Column("run_until", sa.DateTime(), nullable=True))
