"""What seals a device's audit log; it is told at enrolment, so devices of before enrol anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """A device of before has none: its records cannot be checked, and are not taken."""
    op.add_column(
        "device",
        sa.Column("audit_key", sa.String(), nullable=False, server_default=sa.text("''")),
    )
    op.add_column("device", sa.Column("audit_seed", sa.LargeBinary(), nullable=True))
