"""What is frozen of a rollout, and who approved it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Rollouts from before were frozen by nobody."""
    op.add_column("rollout", sa.Column("edited_by", sa.String(), nullable=True))
    op.add_column("rollout", sa.Column("spec", sa.LargeBinary(), nullable=True))
    op.create_table(
        "rollout_approval",
        sa.Column("rollout_id", sa.String(), sa.ForeignKey("rollout.id"), primary_key=True),
        sa.Column("actor", sa.String(), primary_key=True),
        sa.Column("approver", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("envelope", sa.String(), nullable=False),
        sa.Column("given_at", sa.DateTime(), nullable=False),
    )
