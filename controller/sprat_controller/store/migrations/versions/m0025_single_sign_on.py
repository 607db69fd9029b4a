"""People sign in at a provider of OpenID Connect, and have roles by their groups there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Nobody came from a provider before."""
    op.add_column("login_session", sa.Column("provider_sid", sa.String(), nullable=True))
    op.create_index("ix_login_session_provider_sid", "login_session", ["provider_sid"])
    op.create_table(
        "oidc_identity",
        sa.Column("issuer", sa.String(), primary_key=True),
        sa.Column("sub", sa.String(), primary_key=True),
        sa.Column(
            "subject_id", sa.String(), sa.ForeignKey("subject.id"), nullable=False, unique=True
        ),
        sa.Column("known_as", sa.String(), nullable=False),
        sa.Column("first_at", sa.DateTime(), nullable=False),
        sa.Column("last_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "provided_role",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("subject_id", sa.String(), sa.ForeignKey("subject.id"), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("ends_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_provided_role_subject_id", "provided_role", ["subject_id"])
    op.create_table(
        "oidc_attempt",
        sa.Column("state_sha256", sa.String(), primary_key=True),
        sa.Column("browser_sha256", sa.String(), nullable=False),
        sa.Column("next_path", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_oidc_attempt_expires_at", "oidc_attempt", ["expires_at"])
    op.create_table(
        "oidc_device",
        sa.Column("handle_sha256", sa.String(), primary_key=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("interval_s", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_oidc_device_expires_at", "oidc_device", ["expires_at"])
    op.create_table(
        "oidc_logout",
        sa.Column("jti_sha256", sa.String(), primary_key=True),
        sa.Column("ends_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_oidc_logout_ends_at", "oidc_logout", ["ends_at"])
