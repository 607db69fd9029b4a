from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from simulators.http_world import Client, HttpWorld
from sprat_controller.store.session import Database


@pytest.fixture
def world(tmp_path: Path) -> Generator[HttpWorld]:
    """The API over real parts in an empty folder."""
    made = HttpWorld(tmp_path)
    yield made
    made.close()


@pytest.fixture
def any_world(tmp_path: Path, any_database: Database) -> HttpWorld:
    """The same on SQLite, and then on PostgreSQL."""
    return HttpWorld(tmp_path, any_database)


@pytest.fixture
def admin(world: HttpWorld) -> Client:
    """A client that may do everything."""
    return world.client()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[HttpWorld]:
    """The same, made once for tests that leave nothing behind that another could notice."""
    made = HttpWorld(tmp_path_factory.mktemp("shared"))
    yield made
    made.close()


@pytest.fixture
def guest(shared: HttpWorld) -> Client:
    """A client of the shared world that may do everything."""
    return shared.client()
