"""Metadata of the two TUF repositories; variants are targets, and can be retired."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OF_VARIANTS = ("execution", "desired_model")


def upgrade() -> None:
    """Make publishers and variants anew: what was signed before is of no use to any agent."""
    # SQLite keeps what refers to a table by its name; PostgreSQL does not let it go.
    is_held = op.get_bind().dialect.name != "sqlite"
    if is_held:
        for table in _OF_VARIANTS:
            op.drop_constraint(f"{table}_digest_fkey", table, type_="foreignkey")
    op.drop_table("variant")
    op.drop_table("publisher")
    op.create_table(
        "trust_metadata",
        sa.Column("repository", sa.String(), primary_key=True),
        sa.Column("role", sa.String(), primary_key=True),
        sa.Column("version", _INT64, primary_key=True),
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
    if is_held:
        for table in _OF_VARIANTS:
            name = f"{table}_digest_fkey"
            op.create_foreign_key(name, table, "variant", ["digest"], ["digest"])
