from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from simulators.both_books import SmallTrial, SqlTrial, Trial
from simulators.controlled import World
from simulators.migrated import empty_database
from simulators.watched import watching
from sprat_controller.store.session import Database
from sqlalchemy import Connection, event
from sqlmodel import SQLModel

if TYPE_CHECKING:
    from simulators.postgres import Cluster

SQLITE, POSTGRESQL = "sqlite", "postgresql"


@pytest.fixture(autouse=True)
def every_change_is_recorded() -> Generator[None]:
    """Fail a test in which the controller changed state without a record in its audit log."""
    with watching() as watch:
        yield
    assert not watch.found, "\n".join(watch.found)


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    """An empty controller database in a file, migrated to the newest schema."""
    made = empty_database(tmp_path / "controller.db")
    yield made
    made.close()


@pytest.fixture
def postgres(cluster: Cluster) -> Generator[Database]:
    """An empty controller database on PostgreSQL, migrated to the newest schema."""
    name = cluster.create_migrated()
    made = Database(cluster.url(name))
    yield made
    made.close()
    cluster.drop(name)


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def any_database(request: pytest.FixtureRequest) -> Database:
    """An empty controller database on SQLite, and then on PostgreSQL."""
    made: Database = request.getfixturevalue("database" if request.param == SQLITE else "postgres")
    return made


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def world(request: pytest.FixtureRequest) -> Generator[World]:
    """A controller in this process with release 1.0.0, on SQLite and then on PostgreSQL."""
    made = World(request.getfixturevalue("unprotected") if request.param == POSTGRESQL else None)
    made.publish("1.0.0")
    yield made
    made.close()


@pytest.fixture(params=["reference", SQLITE, POSTGRESQL])
def trial(request: pytest.FixtureRequest) -> Generator[Trial]:
    """Nobody yet, with the reference book, then that of the database on SQLite and PostgreSQL."""
    if request.param == "reference":
        yield SmallTrial()
        return
    world = World(request.getfixturevalue("unprotected") if request.param == POSTGRESQL else None)
    yield SqlTrial(world)
    world.close()


def _be_patient(connection: Connection) -> None:
    """Let a test that stands still for a second on a busy machine keep its transaction."""
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '60s'")


@pytest.fixture(scope="session")
def unprotected(cluster: Cluster) -> Generator[Database]:
    """All tables on PostgreSQL, without the triggers that keep the audit log from being emptied."""
    name = cluster.create()
    made = Database(cluster.url(name))
    SQLModel.metadata.create_all(made.engine)
    event.listen(made.engine, "begin", _be_patient)
    yield made
    made.close()
    cluster.drop(name)
