"""Which device and which rollout an audit record is about, for look-ups and for scopes of roles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_TABLE: Final = "audit_record"
_COLUMNS: Final = ("device_id", "rollout_id")
_BATCH: Final = 1000
_FILL: Final = sa.text(
    "UPDATE audit_record SET device_id = :device_id, rollout_id = :rollout_id WHERE seq = :seq"
)


def upgrade() -> None:
    """Add the columns and fill them from the bodies; the log refuses changes before and after."""
    for column in _COLUMNS:
        op.add_column(_TABLE, sa.Column(column, sa.String()))
    _allow_updates()
    _fill()
    _refuse_updates()
    for name in ("device", "rollout"):
        where = sa.text(f"{name}_id IS NOT NULL")
        op.create_index(
            f"ix_audit_record_{name}",
            _TABLE,
            [f"{name}_id", "seq"],
            sqlite_where=where,
            postgresql_where=where,
        )


def _fill() -> None:
    connection, after = op.get_bind(), 0
    page = sa.text("SELECT seq, body FROM audit_record WHERE seq > :after ORDER BY seq LIMIT :many")
    while rows := connection.execute(page, {"after": after, "many": _BATCH}).all():
        after = rows[-1].seq
        found = [{"seq": row.seq, **_about(json.loads(bytes(row.body)))} for row in rows]
        if some := [one for one in found if one["device_id"] or one["rollout_id"]]:
            connection.execute(_FILL, some)


def _about(body: Mapping[str, Any]) -> dict[str, str | None]:
    return {f"{kind}_id": _named(kind, body) for kind in ("device", "rollout")}


def _named(kind: str, body: Mapping[str, Any]) -> str | None:
    subject = str(body["subject"])
    name = subject.removeprefix(f"{kind}/")
    if name != subject:
        return name
    said = body["detail"].get(kind)
    return said if isinstance(said, str) and said else None


def _allow_updates() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_record_no_update")
    else:
        op.execute("ALTER TABLE audit_record DISABLE TRIGGER audit_record_no_update")


def _refuse_updates() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER audit_record_no_update BEFORE UPDATE ON audit_record"
            " BEGIN SELECT RAISE(ABORT, 'audit_record is append-only'); END"
        )
    else:
        op.execute("ALTER TABLE audit_record ENABLE TRIGGER audit_record_no_update")
