"""Recurring rollouts are edited: which revision one is at, and who changed it last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """What there is was never edited."""
    op.add_column(
        "recurrence",
        sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("1")),
    )
    op.add_column("recurrence", sa.Column("edited_by", sa.String(), nullable=True))
