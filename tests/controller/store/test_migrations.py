from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sprat_controller.audit import log
from sprat_controller.audit.tags import Tag
from sprat_controller.store import migrations, tables
from sprat_controller.store.session import Database, sqlite_url
from sqlalchemy import exc, text
from sqlmodel import SQLModel

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_the_migrated_schema_equals_the_tables(any_database: Database) -> None:
    with any_database.engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_second_upgrade_changes_nothing(any_database: Database) -> None:
    with any_database.transaction() as session:
        log.append(session, Tag.CONTROLLER_STARTED, at=NOW, actor="controller", subject="it")
    migrations.upgrade(any_database)
    with any_database.reading() as session:
        assert session.get(tables.AuditRecord, 1)


def test_a_failed_upgrade_leaves_nothing(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "one.db"))
    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE execution (id TEXT)"))
    with pytest.raises(exc.OperationalError, match="already exists"):
        migrations.upgrade(database)
    with database.engine.begin() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        assert [row.name for row in names] == ["execution"]
    database.close()


LOGS = ["audit_record", "device_audit_record"]
CHANGES = ["UPDATE {table} SET hash = 'x'", "DELETE FROM {table}"]
HIDDEN = {
    "sqlite": ["INSERT OR REPLACE INTO {table} SELECT * FROM {table}"],
    "postgresql": [
        "INSERT INTO {table} SELECT * FROM {table} ON CONFLICT ({key}) DO UPDATE SET hash = 'x'",
        "TRUNCATE {table}",
    ],
}


@pytest.mark.parametrize("table", LOGS)
def test_an_audit_log_is_only_ever_appended_to(any_database: Database, table: str) -> None:
    with any_database.transaction() as session:
        log.append(session, Tag.CONTROLLER_STARTED, at=NOW, actor="controller", subject="it")
        session.add(
            tables.DeviceAuditRecord(device_id="a", seq=1, body=b"{}", hash="0", received_at=NOW)
        )
    key = "device_id, seq" if table == "device_audit_record" else "seq"
    for statement in [*CHANGES, *HIDDEN[any_database.engine.dialect.name]]:
        with (
            pytest.raises(exc.IntegrityError, match=f"{table} is append-only"),
            any_database.transaction() as session,
        ):
            session.connection().exec_driver_sql(statement.format(table=table, key=key))
