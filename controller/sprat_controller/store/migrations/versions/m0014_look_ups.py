"""Indexes by which `why`, disruption budgets and queues ask a large fleet about few rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_MAY_BE_DOWN = (
    "started_at IS NOT NULL AND state || '' IN"
    " ('IN_PROGRESS', 'QUEUED', 'FAILED', 'TIMED_OUT', 'ROLLED_BACK', 'CANCELED')"
)


def upgrade() -> None:
    """An index by state is also one by place in the queue; the others hold only what is rare."""
    op.drop_index("ix_execution_rollout_state", "execution")
    op.create_index("ix_execution_queue", "execution", ["rollout_id", "state", "position"])
    group = "rollout_id, group_number, state, excused_at"
    _partial("ix_execution_excused", "execution", group, "excused_at IS NOT NULL")
    _partial(
        "ix_execution_down", "execution", "device_id, state, updated_at, started_at", _MAY_BE_DOWN
    )
    _partial("ix_device_revoked", "device", "id", "revoked_at IS NOT NULL")


def _partial(name: str, table: str, columns: str, where: str) -> None:
    of = sa.text(where)
    named = columns.split(", ")
    op.create_index(name, table, named, sqlite_where=of, postgresql_where=of)
