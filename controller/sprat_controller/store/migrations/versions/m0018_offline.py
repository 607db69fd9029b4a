"""An index by which disruption budgets go through what is offline, not all that ever failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """It holds only what is offline."""
    of = sa.text("NOT online AND revoked_at IS NULL")
    op.create_index("ix_device_offline", "device", ["id"], sqlite_where=of, postgresql_where=of)
