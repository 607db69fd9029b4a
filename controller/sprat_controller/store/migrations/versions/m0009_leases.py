"""Who works on a rollout that is due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Nobody works on anything: the controller of before has stopped."""
    op.add_column("rollout", sa.Column("lease_owner", sa.String(), nullable=True))
    op.add_column(
        "rollout", sa.Column("lease_number", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("rollout", sa.Column("lease_until", sa.DateTime(), nullable=True))
