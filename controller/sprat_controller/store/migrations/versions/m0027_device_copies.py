"""What tells a copy of a device: which starts spoke for it before, and where its log was forked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
_INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Nothing was noticed yet."""
    op.add_column("device", sa.Column("former_boots", sa.JSON(), nullable=True))
    op.add_column("device", sa.Column("audit_forked_at", _INT64, nullable=True))
