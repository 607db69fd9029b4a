"""How a rollout's model is served."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Rollouts from before left it to the devices."""
    op.add_column("rollout", sa.Column("serving", sa.JSON(none_as_null=True), nullable=True))
