from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import pytest
from processes import wait_for
from simulators.postgres import Cluster
from sprat_controller.audit import log
from sprat_controller.audit.verify import verify_controller
from sprat_controller.errors import StartupError
from sprat_controller.store.opening import open_database
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Blob
from sprat_proto.audit_events import Tag
from sqlalchemy import exc, func, text
from sqlmodel import Session, select

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
HUGE = 5 << 40


def append(session: Session, subject: str = "it") -> None:
    log.append(session, Tag.CONTROLLER_STARTED, at=NOW, actor="controller", subject=subject)


def count(session: Session) -> int:
    return session.exec(select(func.count()).select_from(AuditRecord)).one()


def test_changes_take_turns_so_that_none_is_lost(any_database: Database) -> None:
    def write(writer: int) -> None:
        for _ in range(10):
            with any_database.transaction() as session:
                append(session, f"writer-{writer}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    with any_database.reading() as session:
        records = session.exec(select(AuditRecord).order_by("seq")).all()
        report = verify_controller(session)
    assert [record.seq for record in records] == list(range(1, 61))
    assert (report.ok, report.records) == (True, 60), report.message


def test_an_error_undoes_all(any_database: Database) -> None:
    def fail() -> None:
        with any_database.transaction() as session:
            append(session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with any_database.reading() as session:
        assert count(session) == 0


def test_who_looks_sees_one_state(any_database: Database) -> None:
    with any_database.reading() as looking:
        assert count(looking) == 0
        with any_database.transaction() as session:
            append(session)
        assert count(looking) == 0
    with any_database.reading() as looking:
        assert count(looking) == 1


def test_numbers_are_as_large_as_blobs_and_moments_come_back_in_utc(any_database: Database) -> None:
    with any_database.transaction() as session:
        session.add(Blob(sha256="a", size=HUGE, created_at=NOW))
    with any_database.reading() as session:
        found = session.exec(select(Blob)).one()
        assert (found.size, found.created_at) == (HUGE, NOW)


def test_who_only_looks_cannot_change_anything_on_postgresql(postgres: Database) -> None:
    with (
        pytest.raises(exc.InternalError, match="read-only"),
        postgres.reading() as session,
    ):
        session.connection().execute(text("DELETE FROM rollout"))


def test_a_single_statement_need_not_wait_for_its_turn(postgres: Database) -> None:
    with postgres.transaction() as first:
        append(first)
        with postgres.transaction(alone=False) as second:
            assert count(second) == 0


def test_who_says_nothing_for_too_long_holds_nobody_up(postgres: Database) -> None:
    went_on = threading.Event()

    def other() -> None:
        with postgres.transaction() as session:
            append(session, "other")
        went_on.set()

    def freeze() -> None:
        # Long enough that a busy machine does not cut it off before it is frozen.
        with postgres.transaction(pause_ms=1_000) as session:
            append(session, "frozen")
            waiting.start()
            assert went_on.wait(10)
            append(session, "woken")

    waiting = threading.Thread(target=other)
    with pytest.raises(exc.DBAPIError, match="idle-in-transaction"):
        freeze()
    waiting.join()
    with postgres.reading() as session:
        assert [one.subject for one in session.exec(select(AuditRecord))] == ["other"]


def test_threads_of_one_controller_have_one_place_in_the_queue(postgres: Database) -> None:
    url = postgres.engine.url.render_as_string(hide_password=False)
    other = Database(url)

    def write(writer: int) -> None:
        with other.transaction() as session:
            append(session, f"writer-{writer}")

    with closing(other), ThreadPoolExecutor(4) as pool:
        with postgres.transaction() as session:
            session.connection()  # only now it has its turn
            done = pool.map(write, range(4))
            wait_for("a writer to queue", lambda: waiting_for_turn(session) > 0)
            for _ in range(20):
                assert waiting_for_turn(session) == 1
                time.sleep(0.01)
        list(done)
    with postgres.reading() as session:
        assert count(session) == 4


@pytest.mark.parametrize("alone", [True, False])
def test_the_pause_is_that_of_the_transaction(postgres: Database, *, alone: bool) -> None:
    shown = text("SHOW idle_in_transaction_session_timeout")
    with postgres.transaction(alone=alone, pause_ms=7_000) as session:
        assert session.connection().execute(shown).scalar_one() == "7s"
    with postgres.transaction(alone=alone) as session:
        assert session.connection().execute(shown).scalar_one() == "15s"


def waiting_for_turn(session: Session) -> int:
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    found: int = session.connection().execute(text(waiting)).scalar_one()
    return found


def test_a_server_that_was_started_anew_is_used_again(postgres: Database) -> None:
    with postgres.transaction() as session:
        append(session)
    with postgres.engine.connect() as killer:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        killer.execute(text(f"{cut} AND datname = current_database()"))
    with postgres.transaction() as session:
        append(session)
        assert count(session) == 2


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(StartupError) as caught:
        open_database("postgresql+psycopg://sprat:secret@127.0.0.1:1/fleet")
    assert "postgresql+psycopg://sprat:***@127.0.0.1:1/fleet cannot be opened" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_that_orders_by_language_is_refused(cluster: Cluster) -> None:
    with cluster.connect("postgres") as connection:
        connection.execute(
            "CREATE DATABASE german TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'"
        )
    with pytest.raises(StartupError, match="orders text by its bytes"):
        open_database(cluster.url("german"))
    cluster.drop("german")


def test_two_that_start_at_once_migrate_once(cluster: Cluster) -> None:
    url = cluster.url(cluster.create())
    with ThreadPoolExecutor(2) as pool:
        for database in pool.map(open_database, [url, url]):
            with closing(database), database.reading() as session:
                assert count(session) == 0
