"""Bodies of audit records may be erased once a record says that they expired."""

from __future__ import annotations

import json
import re
from typing import Any, Final, cast

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"

_INT64: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_HAS_BODY: Final = "length(body) > 0"
_BATCH: Final = 1000
_TAG: Final = re.compile(r"[a-z]+:[a-z]+:[a-z]+(?:[_-][a-z]+)*")
_MAX_TAG: Final = 200
# By table: what else of a record that expired is empty, and whose log it is of.
_EMPTY_RECORD: Final = """
NEW.actor = '' AND NEW.tag = '' AND NEW.subject = ''
AND NEW.device_id IS NULL AND NEW.rollout_id IS NULL
AND NEW.seq = OLD.seq AND NEW.hash = OLD.hash AND NEW.at = OLD.at
"""
_EMPTY_DEVICE_RECORD: Final = """
NEW.tag = '' AND NEW.device_id = OLD.device_id AND NEW.seq = OLD.seq
AND NEW.hash = OLD.hash AND NEW.received_at = OLD.received_at
AND (NEW.seal = OLD.seal OR (NEW.seal IS NULL AND OLD.seal IS NULL))
"""
_ERASED: Final = {
    "audit_record": (_EMPTY_RECORD, "''"),
    "device_audit_record": (_EMPTY_DEVICE_RECORD, "OLD.device_id"),
}


def upgrade() -> None:
    """Everything is kept for ever until somebody says otherwise."""
    op.create_table(
        "audit_retention",
        sa.Column("tag", sa.String(), primary_key=True),
        sa.Column("days", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("set_at", sa.DateTime(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
    )
    op.create_table(
        "audit_hold",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("device_id", sa.String(), nullable=True),
        sa.Column("rollout_id", sa.String(), nullable=True),
        sa.Column("since", sa.DateTime(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("added_at", sa.DateTime(), nullable=False),
        sa.Column("added_by", sa.String(), nullable=False),
        sa.Column("released_at", sa.DateTime(), nullable=True),
        sa.Column("released_by", sa.String(), nullable=True),
    )
    op.create_table(
        "audit_expiry",
        sa.Column("device_id", sa.String(), primary_key=True),
        sa.Column("first_seq", _INT64, primary_key=True),
        sa.Column("last_seq", _INT64, nullable=False),
        sa.Column("seq", _INT64, nullable=False),
    )
    op.create_index("ix_audit_expiry_seq", "audit_expiry", ["seq"])
    op.add_column(
        "device_audit_record",
        sa.Column("tag", sa.String(), nullable=False, server_default=sa.text("''")),
    )
    _drop_triggers()
    _copy_tags()
    for table, (is_erased, log) in _ERASED.items():
        may = (
            f"length(NEW.body) = 0 AND {is_erased} AND EXISTS (SELECT 1 FROM audit_expiry AS e"  # noqa: S608 - names from above
            f" WHERE e.device_id = {log} AND OLD.seq BETWEEN e.first_seq AND e.last_seq)"
        )
        _refuse_updates(table, may)
    for table, moment in (("audit_record", "at"), ("device_audit_record", "received_at")):
        op.create_index(
            f"ix_{table}_kept",
            table,
            [moment],
            sqlite_where=sa.text(_HAS_BODY),
            postgresql_where=sa.text(_HAS_BODY),
        )


def _drop_triggers() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for table in _ERASED:
        of_table = "" if is_sqlite else f" ON {table}"
        op.execute(f"DROP TRIGGER {table}_no_update{of_table}")


def _copy_tags() -> None:
    connection, after = op.get_bind(), {"device_id": "", "seq": 0}
    page = sa.text(
        "SELECT device_id, seq, body FROM device_audit_record"
        " WHERE (device_id, seq) > (:device_id, :seq) ORDER BY device_id, seq LIMIT :many"
    )
    fill = sa.text(
        "UPDATE device_audit_record SET tag = :tag WHERE device_id = :device_id AND seq = :seq"
    )
    while rows := connection.execute(page, {**after, "many": _BATCH}).all():
        after = {"device_id": rows[-1].device_id, "seq": rows[-1].seq}
        found = [
            {"device_id": row.device_id, "seq": row.seq, "tag": _tag(bytes(row.body))}
            for row in rows
        ]
        connection.execute(fill, found)


def _tag(body: bytes) -> str:
    """Return a device's own word for what happened, if it is one of ours."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    tag: Any = cast("dict[str, Any]", said).get("tag") if isinstance(said, dict) else None
    return tag if isinstance(tag, str) and len(tag) <= _MAX_TAG and _TAG.fullmatch(tag) else ""


def _refuse_updates(table: str, may: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} WHEN NOT ({may})"
            f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {table}_may_expire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF {may} THEN RETURN NEW; END IF;"
        f" RAISE EXCEPTION '{table} is append-only'"
        " USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION {table}_may_expire()"
    )
