"""What fails a test in which state is changed without a record, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from types import CodeType

import pytest
import sqlalchemy
from simulators.watched import BOOKKEEPING, COLUMNS, Watch, Write, contents, watching, written
from sprat_controller.audit import log
from sprat_controller.store.session import Database
from sprat_controller.store.tables import CustomRole
from sprat_proto.audit_events import Tag
from sqlmodel import Session, SQLModel

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
# As a file of the controller would be that nobody has looked at.
ROGUE = "/somewhere/sprat_controller/rogue.py"
OPENS = """
def opens(database, change):
    with database.transaction() as session:
        change(session)
"""


@pytest.fixture(autouse=True)
def every_change_is_recorded() -> None:
    """Here state is changed without a record."""


def opens(database: Database, change: object, name: str = ROGUE) -> None:
    code: CodeType = compile(OPENS, name, "exec")
    made: dict[str, object] = {}
    exec(code, made)  # noqa: S102 - the only way to be in another file
    call = made["opens"]
    assert callable(call)
    call(database, change)


def add_role(session: Session) -> None:
    session.add(CustomRole(name="r", permissions=[], created_at=NOW, created_by="user:ann"))


def rename_role(session: Session) -> None:
    session.get_one(CustomRole, "r").created_by = "user:eve"


def remove_role(session: Session) -> None:
    session.delete(session.get_one(CustomRole, "r"))


def record(session: Session) -> None:
    log.append(session, Tag.CONTROLLER_STARTED, at=NOW, actor="controller", subject="it")


def add_role_and_record(session: Session) -> None:
    add_role(session)
    record(session)


def look(session: Session) -> None:
    session.get(CustomRole, "r")
    session.connection().execute(sqlalchemy.delete(CustomRole))  # which there is none of


def test_whatever_is_changed_without_a_record_is_found(any_database: Database) -> None:
    with watching() as watch:
        for change in (add_role, rename_role, remove_role):
            opens(any_database, change)
    what = [one.split(" without")[0].partition(" changed ")[2] for one in watch.found]
    assert what == ["rows of custom_role", "created_by of custom_role", "rows of custom_role"]
    assert all(one.startswith("rogue.py:3 (opens) changed") for one in watch.found)


def test_with_a_record_in_the_same_transaction_all_is_well(any_database: Database) -> None:
    with watching() as watch:
        opens(any_database, add_role_and_record)
        assert not watch.found
        # The record of another transaction is no excuse.
        opens(any_database, record)
        opens(any_database, remove_role)
    assert len(watch.found) == 1


def test_what_is_undone_or_only_looked_at_needs_none(any_database: Database) -> None:
    def fail(session: Session) -> None:
        add_role(session)
        session.flush()
        raise ZeroDivisionError

    with watching() as watch:
        with pytest.raises(ZeroDivisionError):
            opens(any_database, fail)
        opens(any_database, look)
    assert not watch.found


def test_what_a_test_writes_itself_is_left_alone(any_database: Database) -> None:
    with watching() as watch:
        opens(any_database, add_role, "/somewhere/tests/test_x.py")
    assert not watch.found


@pytest.mark.parametrize(
    ("statement", "write"),
    [
        ("SELECT 1", None),
        ("INSERT INTO rollout (id) VALUES (?)", Write("rollout", frozenset())),
        ("DELETE FROM rollout WHERE id = ?", Write("rollout", frozenset())),
        (
            "UPDATE rollout SET state=?, due_at=(SELECT max(a, b) FROM x WHERE y = 1) WHERE id = ?",
            Write("rollout", frozenset({"state", "due_at"})),
        ),
        (
            'UPDATE device SET "group"=%(group)s::VARCHAR, online=false',
            Write("device", frozenset({"group", "online"})),
        ),
    ],
)
def test_what_a_statement_changes_is_read(statement: str, write: Write | None) -> None:
    assert written(statement) == write


def test_what_is_bookkeeping_is_there_and_has_a_reason() -> None:
    tables = SQLModel.metadata.tables
    assert BOOKKEEPING.keys() - {"alembic_version"} <= tables.keys()
    for table, columns in COLUMNS.items():
        assert columns.keys() <= set(tables[table].columns.keys())
        assert table not in BOOKKEEPING
    reasons = [*BOOKKEEPING.values(), *(one for of in COLUMNS.values() for one in of.values())]
    assert all(len(one) > 15 for one in reasons)


def test_bookkeeping_beside_state_is_no_excuse() -> None:
    watch = Watch()
    watch.check([Write("device", frozenset({"last_seen_at"}))], "x")
    assert not watch.found
    watch.check([Write("device", frozenset({"last_seen_at", "group"}))], "x")
    assert watch.found[0].startswith("x changed group of device without a record")


def test_all_rows_but_bookkeeping_are_compared(any_database: Database) -> None:
    before = contents(any_database)
    opens(any_database, record)
    assert contents(any_database) == before
    opens(any_database, add_role)
    assert contents(any_database) != before


def test_a_record_that_lacks_what_its_tag_says_is_found(any_database: Database) -> None:
    def whole(session: Session) -> None:
        log.append(
            session, Tag.HOLD_ADDED, at=NOW, actor="user:ann", subject="hold/1", after="held"
        )

    def partial(session: Session) -> None:
        log.append(session, Tag.HOLD_ADDED, at=NOW, actor="user:ann", subject="hold/1")

    with watching() as watch:
        opens(any_database, whole)
        assert not watch.found
        opens(any_database, partial)
    assert len(watch.found) == 1
    assert "operator:hold:added (created) has no after" in watch.found[0]
