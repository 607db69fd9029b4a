"""The first tables, and the triggers that keep the audit logs append-only.

There is no way down: an older controller starts from a backup, since to drop a table is to drop the
audit.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# SQLite's integers have 64 bits by themselves; those of its databases are called INTEGER.
_INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# What a second row may not share with a first one, by log.
_LOGS = {
    "audit_record": "seq = NEW.seq",
    "device_audit_record": "device_id = NEW.device_id AND seq = NEW.seq",
}


def upgrade() -> None:
    """Create everything."""
    _people()
    _devices()
    _models()
    _rollouts()
    _audit()
    for table, same in _LOGS.items():
        _append_only(table, same)


def _append_only(table: str, same: str) -> None:
    """Refuse UPDATE, DELETE, and what hides one: INSERT OR REPLACE, TRUNCATE."""
    if op.get_bind().dialect.name == "sqlite":
        _append_only_sqlite(table, same)
    else:
        _append_only_postgresql(table)


def _append_only_sqlite(table: str, same: str) -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    for verb in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}")
    exists = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - names from above
    op.execute(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} {exists} {refuse}")


def _append_only_postgresql(table: str) -> None:
    """Do the same; ON CONFLICT DO UPDATE fires the trigger of UPDATE there."""
    op.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION '{table} is append-only'"
        " USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    for verb, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
            f" FOR EACH {each} EXECUTE FUNCTION {table}_refuse()"
        )


def _people() -> None:
    """Tokens of people, and claims for devices."""
    op.create_table(
        "operator_token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("secret_sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_sha256"),
    )
    op.create_index("ix_operator_token_name", "operator_token", ["name"])
    op.create_table(
        "enrolment_token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("secret_sha256", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("used_at", sa.DateTime(), nullable=True),
        sa.Column("used_key_sha256", sa.String(), nullable=True),
        sa.Column("certificate_pem", sa.String(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_sha256"),
    )
    op.create_index("ix_enrolment_token_device_id", "enrolment_token", ["device_id"])


def _devices() -> None:
    """Devices and their labels."""
    op.create_table(
        "device",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("enrolled_at", sa.DateTime(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.Column("last_seen_at", sa.DateTime(), nullable=True),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("carrier", sa.String(), nullable=True),
        sa.Column("capability", sa.Integer(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("profile", sa.JSON(), nullable=True),
        sa.Column("hardware_class", sa.String(), nullable=True),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("obeyed_version", _INT64, nullable=False),
        sa.Column("running", sa.JSON(), nullable=False),
        sa.Column("report_seq", _INT64, nullable=False),
        sa.Column("audit_seq", _INT64, nullable=False),
        sa.Column("audit_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_device_hardware_class", "device", ["hardware_class"])
    op.create_index("ix_device_last_seen_at", "device", ["last_seen_at"])
    op.create_index("ix_device_state", "device", ["state"])
    op.create_table(
        "device_label",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id", "key"),
    )
    op.create_index("ix_device_label_pair", "device_label", ["key", "value"])


def _models() -> None:
    """What is published."""
    op.create_table(
        "publisher",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("public_pem", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key_id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "blob",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", _INT64, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "release",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("counter", _INT64, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("pushed_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("model", "release"),
        sa.UniqueConstraint("model", "counter"),
    )
    op.create_table(
        "variant",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("envelope_sha256", sa.String(), nullable=False),
        sa.Column("envelope_size", sa.Integer(), nullable=False),
        sa.Column("signer_key_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["signer_key_id"],
            ["publisher.key_id"],
        ),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("model", "release", "variant"),
    )
    op.create_index("ix_variant_model", "variant", ["model"])


def _rollouts() -> None:
    """Campaigns, and what each device should run."""
    op.create_table(
        "rollout",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("target", sa.JSON(), nullable=False),
        sa.Column("context", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=True),
        sa.Column("start_at", sa.DateTime(), nullable=True),
        sa.Column("max_in_progress", sa.Integer(), nullable=False),
        sa.Column("execution_timeout_s", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_rollout_due_at", "rollout", ["due_at"])
    op.create_index("ix_rollout_state", "rollout", ["state"])
    op.create_table(
        "execution",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("verdicts", sa.JSON(), nullable=False),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("deadline_at", sa.DateTime(), nullable=True),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"],
            ["device.id"],
        ),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["variant.digest"],
        ),
        sa.ForeignKeyConstraint(
            ["rollout_id"],
            ["rollout.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("rollout_id", "device_id"),
    )
    op.create_index("ix_execution_device_id", "execution", ["device_id"])
    op.create_index("ix_execution_rollout_state", "execution", ["rollout_id", "state"])
    op.create_table(
        "desired_model",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("execution_id", sa.String(), nullable=False),
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("context", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"],
            ["device.id"],
        ),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["variant.digest"],
        ),
        sa.PrimaryKeyConstraint("device_id", "alias"),
    )
    op.create_table(
        "assignment",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("version", _INT64, nullable=False),
        sa.Column("issued_at", sa.DateTime(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"],
            ["device.id"],
        ),
        sa.PrimaryKeyConstraint("device_id"),
    )


def _audit() -> None:
    """The logs."""
    op.create_table(
        "audit_record",
        sa.Column("seq", _INT64, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_audit_record_actor", "audit_record", ["actor"])
    op.create_index("ix_audit_record_at", "audit_record", ["at"])
    op.create_index("ix_audit_record_subject", "audit_record", ["subject"])
    op.create_index("ix_audit_record_tag", "audit_record", ["tag"])
    op.create_table(
        "device_audit_record",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("seq", _INT64, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "seq"),
    )
