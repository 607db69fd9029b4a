"""How far receivers elsewhere have the controller's audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Nothing was sent on before."""
    op.create_table(
        "audit_forwarding",
        sa.Column("destination", sa.String(), primary_key=True),
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            server_default="0",
        ),
        sa.Column("sent_at", sa.DateTime(), nullable=True),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("claimed_until", sa.DateTime(), nullable=True),
    )
