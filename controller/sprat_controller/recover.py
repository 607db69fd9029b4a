"""`sprat-controller recover`: lets the administrator in again who has no token that is good."""

from __future__ import annotations

from sprat_controller import ids
from sprat_controller.access import founding
from sprat_controller.clock import Clock
from sprat_controller.config import DataFolder, write_private
from sprat_controller.errors import StartupError
from sprat_controller.store.opening import open_database
from sprat_controller.store.session import sqlite_url


def recover(folder: DataFolder, clock: Clock, database_url: str | None = None) -> str:
    """Put a new token of `user:admin` in the folder, and return what to tell. It may be running.

    Args:
        folder: Of a controller.
        clock: For when the token ends.
        database_url: Where the rows are; None: where `init` was told.

    Raises:
        StartupError: There is no controller, or its database cannot be opened.
    """
    if not folder.admin_token.exists():
        raise StartupError(
            "not_initialised",
            f"expected a controller in {folder.path}, found none: use `sprat-controller init`",
        )
    database = open_database(database_url or folder.database_url() or sqlite_url(folder.database))
    try:
        with database.transaction() as session:
            text = founding.let_in(
                session, now=clock(), new_id=ids.time_ordered(clock), new_secret=ids.new_secret
            )
        write_private(folder.admin_token, f"{text}\n".encode())
    finally:
        database.close()
    return (
        f"user:admin is an administrator over everything again; a new token of theirs is in"
        f" {folder.admin_token}, and the one that was there is worth nothing any more"
    )
