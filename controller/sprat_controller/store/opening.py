"""Opening the controller's database for good: it can be reached, is as it must be, and is migrated.

Whatever stands in the way is one sentence for the person who starts the controller.
"""

from __future__ import annotations

from sqlalchemy import exc, make_url

from sprat_controller.errors import StartupError
from sprat_controller.store import migrations
from sprat_controller.store.session import Database


def open_database(url: str) -> Database:
    """Return the database behind `url`, migrated to the newest schema. Blocking.

    Raises:
        StartupError: It cannot be reached or migrated, or does not sort and spell as SQLite does.
    """
    shown = make_url(url).render_as_string(hide_password=True)
    try:
        database = Database(url)
    except ImportError as error:
        raise StartupError(
            "no_driver",
            f"the driver of {shown} is not installed: install sprat-controller[postgresql]",
        ) from error
    try:
        if database.is_shared:
            _check_order(database, shown)
        migrations.upgrade(database)
    except exc.DBAPIError as error:
        database.close()
        why = " ".join(str(error.orig).split())
        raise StartupError("database", f"the database {shown} cannot be opened: {why}") from error
    except StartupError:
        database.close()
        raise
    return database


def _check_order(database: Database, shown: str) -> None:
    """Refuse a database that orders names by a language: pages are cut by the order of bytes."""
    with database.engine.connect() as connection:
        row = connection.exec_driver_sql(
            "SELECT current_setting('server_encoding'), 'B' < 'a' AND 'a-c' < 'aab'"
        ).one()
    if tuple(row) != ("UTF8", True):
        raise StartupError(
            "database_order",
            f"expected a database in UTF8 that orders text by its bytes, found {shown} otherwise:"
            " make one with `createdb --template template0 --encoding UTF8 --locale C NAME`",
        )
