"""Devices' audit logs are Merkle logs with seals; what was chained before stays as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """No log has begun yet in the new form."""
    for column in (
        sa.Column("audit_frontier", sa.LargeBinary(), nullable=True),
        sa.Column("audit_epoch", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("audit_epoch_key", sa.LargeBinary(), nullable=True),
        sa.Column("audit_at", sa.DateTime(), nullable=True),
        sa.Column("audit_checkpoint", sa.String(), nullable=True),
    ):
        op.add_column("device", column)
    op.drop_column("device", "audit_hash")
    op.add_column("device_audit_record", sa.Column("seal", sa.LargeBinary(), nullable=True))
