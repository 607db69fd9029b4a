"""Bringing a database to the newest schema, with Alembic and without an alembic.ini."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from sprat_controller.store.session import Database


def upgrade(database: Database) -> None:
    """Migrate to the newest schema, in one transaction; nothing happens if it is there already."""
    engine = database.engine.execution_options(sprat_begin="IMMEDIATE")
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
