"""Plans that are kept to be carried out as they were shown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """No plan was kept before."""
    op.create_table(
        "saved_plan",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("strategy", sa.JSON(), nullable=False),
        sa.Column("lines", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
    )
    op.create_index("ix_saved_plan_made_at", "saved_plan", ["made_at"])
