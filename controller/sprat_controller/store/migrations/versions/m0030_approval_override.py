"""Who let a rollout go in an emergency without the approvals that it lacked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Nobody could before."""
    op.add_column(
        "rollout", sa.Column("approval_override", sa.JSON(none_as_null=True), nullable=True)
    )
