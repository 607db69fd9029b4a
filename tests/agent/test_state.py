"""The state file: one agent, one transaction at a time, kept or not at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sprat_agent.errors import StartupError, StateError
from sprat_agent.state import FORMAT, State


def test_a_second_agent_on_the_same_folder_is_kept_out(tmp_path: Path) -> None:
    state = State(tmp_path)
    with pytest.raises(StartupError, match="another agent is running"):
        State(tmp_path)
    state.close()
    State(tmp_path).close()


def test_a_file_of_a_newer_agent_is_not_touched(tmp_path: Path) -> None:
    State(tmp_path).close()
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(StartupError, match=f"format {FORMAT + 1}"):
        State(tmp_path)
    with pytest.raises(StartupError, match="install the agent"):
        State(tmp_path)


def test_a_file_whose_audit_log_cannot_be_gone_on_with_is_not_touched(tmp_path: Path) -> None:
    State(tmp_path).close()
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        connection.execute("PRAGMA user_version = 5")
    connection.close()
    with pytest.raises(StartupError, match=r"format 5.*enrol the device anew"):
        State(tmp_path)


def test_a_file_that_is_no_database_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "agent.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StartupError, match="cannot open the state file"):
        State(tmp_path)


def test_what_returned_is_on_disk_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.reading() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert (tmp_path / "agent.db").stat().st_mode & 0o777 == 0o600
    state.close()


def test_a_failed_transaction_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    state = State(tmp_path)
    insert = "INSERT INTO proved VALUES ('d', 'm', ?)"

    def insert_twice() -> None:
        with state.transaction() as connection:
            connection.execute(insert, (1,))
            connection.execute(insert, (2,))

    with pytest.raises(StateError, match=r"agent\.db"):
        insert_twice()
    with state.transaction() as connection:
        connection.execute(insert, (3,))
    with state.reading() as connection:
        assert connection.execute("SELECT release_counter FROM proved").fetchall() == [(3,)]
    state.close()
