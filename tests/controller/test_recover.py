from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sprat_controller.access import subjects, tokens
from sprat_controller.access.policy import Permission
from sprat_controller.access.snapshot import Policies
from sprat_controller.config import DataFolder
from sprat_controller.errors import StartupError
from sprat_controller.initialise import initialise
from sprat_controller.recover import recover
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import RoleBinding
from sqlmodel import delete

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_an_administrator_who_lost_everything_is_let_in_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    initialise(folder, ["c.test"], lambda: NOW)
    first = folder.admin_token.read_text().strip()
    database = Database(sqlite_url(folder.database))
    with database.transaction() as session:
        session.exec(delete(RoleBinding))
        admin = subjects.find(session, "admin")
        admin.disabled_at = NOW
        session.add(admin)
    later = NOW + timedelta(days=500)
    assert tokens.recognise(database, Policies(), first, later) is None
    said = recover(folder, lambda: later)
    assert "user:admin is an administrator over everything again" in said
    second = folder.admin_token.read_text().strip()
    assert folder.admin_token.stat().st_mode & 0o777 == 0o600
    actor = tokens.recognise(database, Policies(), second, later)
    assert actor is not None
    assert all(actor.decide(permission).allowed for permission in Permission)
    recover(folder, lambda: later)
    assert tokens.recognise(database, Policies(), second, later) is None
    database.close()


def test_where_there_is_no_controller_nobody_is_let_in(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="expected a controller in") as refused:
        recover(DataFolder(tmp_path), lambda: NOW)
    assert refused.value.code == "not_initialised"
    assert not list(tmp_path.iterdir())
