"""What a rollout asks of fit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Rollouts from before ask what their releases do."""
    op.add_column("rollout", sa.Column("policy", sa.JSON(none_as_null=True), nullable=True))
