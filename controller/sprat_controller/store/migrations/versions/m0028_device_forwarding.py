"""How far receivers elsewhere have devices' own audit logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """None of them were sent on before."""
    op.create_table(
        "audit_forwarding_device",
        sa.Column("destination", sa.String(), primary_key=True),
        sa.Column("device_id", sa.String(), primary_key=True),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sent_at", sa.DateTime(), nullable=False),
    )
