"""What devices tell of their models, and what they run without having said so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Nothing was told before; what runs is accounted for at the next heartbeat."""
    op.add_column("device", sa.Column("accounted", sa.JSON(), nullable=True))
    op.add_column("device", sa.Column("fallbacks", sa.JSON(), nullable=True))
    op.create_table(
        "observed_metric",
        sa.Column("device_id", sa.String(), sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("digest", sa.String(), sa.ForeignKey("variant.digest"), primary_key=True),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("hardware_class", sa.String(), nullable=False),
        sa.Column("window_s", _INT64, nullable=False),
        sa.Column("requests", _INT64, nullable=False),
        sa.Column("errors", _INT64, nullable=False),
        sa.Column("decode_milli_tps", sa.Integer(), nullable=False),
        sa.Column("ttft_p95_ms", sa.Integer(), nullable=False),
        sa.Column("peak_bytes", _INT64, nullable=False),
        sa.Column("declared_bytes", _INT64, nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("fallbacks", sa.Integer(), nullable=False),
        sa.Column("prompts", sa.Integer(), nullable=False),
        sa.Column("score_permille", sa.Integer(), nullable=False),
        sa.Column("probed_decode_milli_tps", sa.Integer(), nullable=False),
        sa.Column("probed_ttft_ms", sa.Integer(), nullable=False),
        sa.Column("told_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_observed_metric_class", "observed_metric", ["alias", "hardware_class"])
