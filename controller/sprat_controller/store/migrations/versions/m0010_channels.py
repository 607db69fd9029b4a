"""Channels of releases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """No release is in a channel yet."""
    op.create_table(
        "channel_release",
        sa.Column("model", sa.String(), primary_key=True),
        sa.Column("channel", sa.String(), primary_key=True),
        sa.Column("release", sa.String(), primary_key=True),
        sa.Column("put_at", sa.DateTime(), nullable=False),
        sa.Column("put_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["model", "release"], ["release.model", "release.release"]),
    )
