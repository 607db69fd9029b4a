"""Subjects, what they were given, and whose each token is."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

# A token of before becomes the service account of its name, which has the token's role over
# everything; of several tokens of one name only the one that was not revoked counts.
_SUBJECTS = """
INSERT INTO subject (id, kind, name, created_at, created_by)
SELECT 'service:' || name, 'service', name, min(created_at), 'controller'
FROM operator_token GROUP BY name
"""
_BINDINGS = """
INSERT INTO role_binding (id, subject_id, role, scope, created_at, created_by)
SELECT id, 'service:' || name, role, '', created_at, 'controller'
FROM operator_token WHERE revoked_at IS NULL
"""
# Who did something is told by subject from now on; the audit log keeps what it was told.
_ACTORS: Final = (
    ("rollout", "created_by"),
    ("rollout", "edited_by"),
    ("rollout_group", "promoted_by"),
    ("rollout_approval", "actor"),
    ("recurrence", "created_by"),
    ("saved_plan", "made_by"),
    ("enrolment_token", "created_by"),
    ("release", "pushed_by"),
    ("channel_release", "put_by"),
)


def upgrade() -> None:
    """Every token goes on with what it was for."""
    _tables()
    op.execute(_SUBJECTS)
    op.execute(_BINDINGS)
    op.execute("INSERT INTO access_revision (id, revision) VALUES (1, 1)")
    _tokens()
    for table, column in _ACTORS:
        op.execute(
            f"UPDATE {table} SET {column} = 'service:' || substr({column}, 7)"  # noqa: S608 - ours
            f" WHERE {column} LIKE 'token:%'"
        )


def _tables() -> None:
    op.create_table(
        "subject",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), sa.ForeignKey("subject.id"), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(), nullable=True),
    )
    op.create_index("ix_subject_owner_id", "subject", ["owner_id"])
    op.create_table(
        "custom_role",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
    )
    op.create_table(
        "role_binding",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("subject_id", sa.String(), sa.ForeignKey("subject.id"), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.UniqueConstraint("subject_id", "role", "scope"),
    )
    op.create_index("ix_role_binding_role", "role_binding", ["role"])
    op.create_table(
        "access_revision",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("revision", sa.Integer(), nullable=False),
    )


def _tokens() -> None:
    empty = sa.text("''")
    for column in (
        sa.Column("subject_id", sa.String(), nullable=True),
        sa.Column("scope", sa.String(), nullable=False, server_default=empty),
        sa.Column("made_by", sa.String(), nullable=False, server_default=empty),
        sa.Column("made_with", sa.String(), nullable=False, server_default=empty),
    ):
        op.add_column("operator_token", column)
    op.execute("UPDATE operator_token SET subject_id = 'service:' || name")
    with op.batch_alter_table("operator_token") as batch:
        batch.alter_column("subject_id", existing_type=sa.String(), nullable=False)
        batch.create_foreign_key("fk_operator_token_subject_id", "subject", ["subject_id"], ["id"])
    op.create_index("ix_operator_token_subject_id", "operator_token", ["subject_id"])
