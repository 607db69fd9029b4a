# pyright: reportPrivateUsage=false
# A database is brought to an older schema than the newest.
from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sprat_controller.access import scopes, tokens, within
from sprat_controller.access.policy import Permission
from sprat_controller.access.snapshot import Policies
from sprat_controller.audit import log
from sprat_controller.audit.tree import Tree
from sprat_controller.audit.verify import verify_controller
from sprat_controller.rollout.records import strategy_of
from sprat_controller.rollout.requests import reach, target_from
from sprat_controller.store import migrations, tables
from sprat_controller.store.session import Database, sqlite_url
from sprat_proto import canonical
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import Frontier, leaf_hash
from sqlalchemy import exc, text
from sqlmodel import SQLModel, col, select

if TYPE_CHECKING:
    from simulators.postgres import Cluster

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


OLD_ROLLOUT = """
INSERT INTO rollout (
    id, name, model, release, alias, target, context, state, max_in_progress, execution_timeout_s,
    created_at, created_by, lease_number
) VALUES (
    '{id}', 'n', 'm', '1.0.0', 'a', '{{}}', 256, '{state}', 3, 60, '2026-11-20 12:00:00', 'x', 0
)
"""
OLD_DEVICE = """
INSERT INTO device (
    id, state, "group", identity_key, hardware_id, grace_days, key_sha256, serial, chain_pem,
    may_renew_from_any, enrolled_at, online, capability, agent_version, boot_id, hardware_class,
    simulated, obeyed_version, running, report_seq, audit_seq, audit_hash
) VALUES (
    'd', 'PENDING', 'default', '', '', 0, 'k', '', '', {false}, '2026-11-20 12:00:00', {false}, 5,
    '', '', 'pi5', {false}, 0, '{{}}', 0, 0, ''
)
"""
OLD_EXECUTION = """
INSERT INTO execution (
    id, rollout_id, device_id, position, state, attempt, verdicts, created_at, started_at,
    updated_at
) VALUES (
    'e', 'running', 'd', 0, 'IN_PROGRESS', 1, '[]', '2026-11-20 12:00:00', '2026-11-20 12:01:00',
    '2026-11-20 12:02:00'
)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def unmade(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Database]:
    """A database without a table."""
    if request.param == "sqlite":
        made = Database(sqlite_url(tmp_path / "one.db"))
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        made = Database(cluster.url(cluster.create()))
    yield made
    made.close()


def upgrade_to(revision: str, database: Database) -> None:
    with database.engine.execution_options(sprat_begin="IMMEDIATE").begin() as connection:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@pytest.fixture
def before_strategies(unmade: Database) -> tuple[Database, str]:
    """A database as it was before rollouts had strategies, and how it spells false."""
    upgrade_to("0010", unmade)
    return unmade, "0" if unmade.engine.dialect.name == "sqlite" else "false"


def test_rollouts_of_before_go_on_as_one_group_at_their_pace(
    before_strategies: tuple[Database, str],
) -> None:
    database, false = before_strategies
    states = {"ready": "READY", "running": "RUNNING", "done": "FINISHED"}
    with database.transaction() as session:
        run = session.connection().exec_driver_sql
        run(OLD_DEVICE.format(false=false))
        run("INSERT INTO device_label (device_id, key, value) VALUES ('d', 'site', 'lyon')")
        for name, state in states.items():
            run(OLD_ROLLOUT.format(id=name, state=state))
        run(OLD_EXECUTION)
    migrations.upgrade(database)
    with database.reading() as session:
        groups = session.exec(select(tables.RolloutGroup)).all()
        assert {(one.rollout_id, one.number, one.state, one.devices) for one in groups} == {
            ("ready", 0, "SCHEDULED", 0),
            ("running", 0, "RUNNING", 1),
            ("done", 0, "FINISHED", 0),
        }
        execution = session.exec(select(tables.Execution)).one()
        assert (execution.hardware_class, execution.site) == ("pi5", "lyon")
        assert execution.step_since == execution.started_at
        assert (execution.group_number, execution.tries, execution.is_reverting) == (0, 0, False)
        rollout = session.get(tables.Rollout, "running")
        assert rollout is not None
        assert (rollout.revision, rollout.priority) == (1, 0)
        strategy = strategy_of(rollout)
        assert (strategy.pace.max_in_progress, strategy.deadlines.execution_s) == (3, 60)


OLD_RECORDS: list[tuple[str, dict[str, str], tuple[str | None, str | None]]] = [
    ("device/gw-1", {}, ("gw-1", None)),
    ("rollout/r-1", {}, (None, "r-1")),
    ("execution/e-1", {"device": "gw-2", "rollout": "r-2"}, ("gw-2", "r-2")),
    ("token/t", {"device": ""}, (None, None)),
]


def test_records_of_before_are_found_by_device_and_rollout(unmade: Database) -> None:
    upgrade_to("0015", unmade)
    insert = (
        "INSERT INTO audit_record (seq, body, hash, at, actor, tag, subject)"
        " VALUES (:seq, :body, 'h', '2026-11-20 12:00:00', 'a', 'a:b:c', :subject)"
    )
    with unmade.transaction() as session:
        for seq, (subject, detail, _) in enumerate(OLD_RECORDS, 1):
            body = canonical.encode({"seq": seq, "subject": subject, "detail": dict(detail)})
            params = {"seq": seq, "body": body, "subject": subject}
            session.connection().execute(text(insert), params)
    migrations.upgrade(unmade)
    with unmade.transaction() as session:
        rows = session.exec(select(tables.AuditRecord).order_by(col(tables.AuditRecord.seq)))
        found = [(row.device_id, row.rollout_id) for row in rows]
        assert found == [expected for _, _, expected in OLD_RECORDS]
    with pytest.raises(exc.IntegrityError), unmade.transaction() as session:
        session.connection().exec_driver_sql("UPDATE audit_record SET hash = 'x'")


def test_a_log_of_before_becomes_a_tree_that_goes_on(unmade: Database) -> None:
    upgrade_to("0018", unmade)
    insert = (
        "INSERT INTO audit_record (seq, body, hash, at, actor, tag, subject)"
        " VALUES (:seq, :body, 'h', '2026-11-20 12:00:00', 'token:a', 'a:b:c', 'it')"
    )
    old = {"v": 1, "actor": "token:a", "tag": "a:b:c", "subject": "it", "detail": dict[str, str]()}
    old |= {"ts": "2026-11-20T12:00:00.000+00:00"}
    with unmade.transaction() as session:
        for seq in range(1, 1301):
            params = {"seq": seq, "body": canonical.encode({**old, "seq": seq})}
            session.connection().execute(text(insert), params)
    migrations.upgrade(unmade)
    with unmade.transaction() as session:
        log.append(session, Tag.CONTROLLER_STARTED, at=NOW, actor="controller", subject="it")
    with unmade.reading() as session:
        bodies = session.exec(select(tables.AuditRecord.body).order_by(col(tables.AuditRecord.seq)))
        frontier = Frontier()
        for body in bodies:
            frontier.append(leaf_hash(body))
        assert Tree(session).root(1301) == frontier.root()
        assert len(session.exec(select(tables.AuditSubtree)).all()) == 5
        assert verify_controller(session).records == 1301


OLD_TOKEN = """
INSERT INTO operator_token (id, name, role, secret_sha256, created_at, revoked_at)
VALUES ('{id}', '{name}', '{role}', '{sha256}', '2026-11-20 12:00:00', {revoked_at})
"""


def test_a_token_of_before_goes_on_as_the_service_of_its_name(unmade: Database) -> None:
    upgrade_to("0019", unmade)
    secret = f"sprat_{'A' * 43}"
    sha256 = hashlib.sha256(secret.encode()).hexdigest()
    with unmade.transaction() as session:
        run = session.connection().exec_driver_sql
        revoked = {"revoked_at": "'2026-11-21 12:00:00'", "sha256": "0" * 64}
        run(OLD_TOKEN.format(id="t1", name="ci", role="admin", **revoked))
        known = {"revoked_at": "NULL", "sha256": sha256}
        run(OLD_TOKEN.format(id="t2", name="ci", role="operator", **known))
        run(OLD_ROLLOUT.format(id="r", state="READY").replace("'x'", "'token:ci'"))
    migrations.upgrade(unmade)
    actor = tokens.recognise(unmade, Policies(), secret, NOW)
    assert actor is not None
    assert (actor.subject, actor.session) == ("service:ci", "t2")
    assert actor.decide(Permission.ROLL_OUT).allowed
    assert not actor.decide(Permission.MANAGE_USERS).allowed
    with unmade.reading() as session:
        rollout = session.get(tables.Rollout, "r")
        assert rollout is not None
        assert rollout.created_by == actor.subject


LOGS = ["audit_record", "device_audit_record"]
TREES = {"audit_subtree": "hash", "audit_checkpoint": "note"}


@pytest.mark.parametrize("table", TREES)
def test_what_the_tree_and_its_signatures_are_is_never_changed(
    any_database: Database, table: str
) -> None:
    with any_database.transaction() as session:
        session.add(tables.AuditSubtree(level=1, index=0, hash=bytes(32)))
        session.add(tables.AuditCheckpoint(size=1, note="n", made_at=NOW))
    changes = ["UPDATE {table} SET {column} = 'x'", "DELETE FROM {table}"]
    if any_database.engine.dialect.name == "sqlite":
        changes.append("INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
    else:
        changes.append("TRUNCATE {table}")
    for change in changes:
        statement = change.format(table=table, column=TREES[table])
        with (
            pytest.raises(exc.IntegrityError, match=f"{table} is append-only"),
            any_database.transaction() as session,
        ):
            session.connection().exec_driver_sql(statement)


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


def test_plans_and_recurrences_of_before_are_listed_by_what_they_reach(unmade: Database) -> None:
    upgrade_to("0028", unmade)
    at_lyon: dict[str, Any] = {"labels": {"site": "lyon"}, "devices": []}
    targets: list[dict[str, Any]] = [
        at_lyon,
        {**at_lyon, "devices": ["gw-1"], "filter": "cores >= 4", "scope": "group = a"},
        {"labels": {}, "devices": []},
    ]
    plan = (
        "INSERT INTO saved_plan (id, asked, strategy, lines, made_at, made_by)"
        " VALUES (:id, :asked, '{}', :lines, '2026-11-22 12:00:00', 'a')"
    )
    recurrence = (
        "INSERT INTO recurrence (id, name, model, channel, cron, zone, alias, target, context,"
        " strategy, created_at, created_by, revision, lease_number)"
        " VALUES (:id, 'n', 'm', 's', '0 2 * * *', 'UTC', 'a', :target, 256, '{}',"
        " '2026-11-22 12:00:00', 'a', 1, 0)"
    )
    with unmade.transaction() as session:
        for number, target in enumerate(targets):
            asked = json.dumps({"target": target})
            params = {"id": f"{number}", "asked": asked, "lines": b"[]"}
            session.connection().execute(text(plan), params)
            params = {"id": f"{number}", "target": json.dumps(target)}
            session.connection().execute(text(recurrence), params)
    migrations.upgrade(unmade)
    with unmade.reading() as session:
        for table in (tables.SavedPlan, tables.Recurrence):
            rows = session.exec(select(table).order_by(col(table.id))).all()
            expected = [reach(target_from(target)).cases for target in targets]
            assert [row.reach for row in rows] == expected
        listed = within.reaches(session, scopes.read("site = lyon"), col(tables.Recurrence.reach))
        seen = session.exec(select(tables.Recurrence.id).where(listed)).all()
        assert sorted(seen) == ["0", "1"]
