from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from sprat_controller.store import migrations
from sprat_controller.store.session import Database, sqlite_url


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    """An empty controller database in a file, migrated to the newest schema."""
    made = Database(sqlite_url(tmp_path / "controller.db"))
    migrations.upgrade(made)
    yield made
    made.close()
