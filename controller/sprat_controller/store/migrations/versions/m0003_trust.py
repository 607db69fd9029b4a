"""Metadata of the two TUF repositories; variants are targets, and can be retired."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make publishers and variants anew: what was signed before is of no use to any agent."""
    op.drop_table("variant")
    op.drop_table("publisher")
    op.create_table(
        "trust_metadata",
        sa.Column("repository", sa.String(), primary_key=True),
        sa.Column("role", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "publisher",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("key_ids", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "variant",
        sa.Column("digest", sa.String(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("publisher", sa.String(), sa.ForeignKey("publisher.name"), nullable=False),
        sa.UniqueConstraint("model", "release", "variant"),
    )
    op.create_index("ix_variant_model", "variant", ["model"])
    op.add_column("release", sa.Column("retired_at", sa.DateTime(), nullable=True))
