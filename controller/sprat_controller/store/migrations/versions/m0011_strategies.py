"""How rollouts proceed: their strategy, their groups, and what each execution stands at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

# Rollouts of before have one group that holds all, and it stands where its rollout does. Nothing of
# them was ever taken back, and what is under way has been at its step since it was given out.
_GROUPS = """
INSERT INTO rollout_group (rollout_id, number, name, state, devices, started_at, finished_at)
SELECT
    rollout.id,
    0,
    '0',
    CASE
        WHEN rollout.state IN ('FINISHED', 'STOPPED', 'APPROVAL_DENIED') THEN 'FINISHED'
        WHEN rollout.state IN ('RUNNING', 'PAUSED', 'STOPPING') THEN 'RUNNING'
        ELSE 'SCHEDULED'
    END,
    (SELECT count(*) FROM execution WHERE execution.rollout_id = rollout.id),
    rollout.started_at,
    rollout.finished_at
FROM rollout
"""
_STEPS = "UPDATE execution SET step_since = started_at WHERE state = 'IN_PROGRESS'"
_SITES = """
UPDATE execution SET
    hardware_class = coalesce(
        (SELECT hardware_class FROM device WHERE device.id = execution.device_id), ''
    ),
    site = coalesce(
        (
            SELECT value FROM device_label
            WHERE device_label.device_id = execution.device_id AND device_label.key = 'site'
        ),
        ''
    )
"""


def upgrade() -> None:
    """Every rollout of before goes on as it was: one group, all at once."""
    _rollouts()
    _executions()
    op.add_column("device", sa.Column("penalty_until", sa.DateTime(), nullable=True))
    op.execute(_GROUPS)
    op.execute(_STEPS)
    op.execute(_SITES)


def _rollouts() -> None:
    for column in (
        sa.Column("revision", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("strategy", sa.JSON(), nullable=True),
        sa.Column("abort", sa.JSON(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("rollout", column)
    op.create_table(
        "rollout_group",
        sa.Column("rollout_id", sa.String(), sa.ForeignKey("rollout.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("soak_until", sa.DateTime(), nullable=True),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("verdict", sa.JSON(), nullable=True),
        sa.Column("promoted_by", sa.String(), nullable=True),
        sa.Column("promoted_at", sa.DateTime(), nullable=True),
    )


def _executions() -> None:
    for column in (
        sa.Column("group_number", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("retry_at", sa.DateTime(), nullable=True),
        sa.Column("step_since", sa.DateTime(), nullable=True),
        sa.Column("hardware_class", sa.String(), nullable=False, server_default=sa.text("''")),
        sa.Column("site", sa.String(), nullable=False, server_default=sa.text("''")),
        sa.Column("excused_at", sa.DateTime(), nullable=True),
        sa.Column("is_reverting", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("probe", sa.JSON(), nullable=True),
    ):
        op.add_column("execution", column)
    for name, columns in (
        ("ix_execution_group", ["rollout_id", "group_number", "state"]),
        ("ix_execution_started", ["rollout_id", "started_at"]),
        ("ix_execution_state_device", ["state", "device_id"]),
    ):
        op.create_index(name, "execution", columns)
