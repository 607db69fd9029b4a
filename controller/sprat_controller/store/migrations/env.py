"""What Alembic runs: the migrations over the connection that `upgrade` opened."""

from __future__ import annotations

from alembic import context

from sprat_controller.store import tables


def main() -> None:
    """Run the migrations; the transaction is the caller's."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=tables.Device.metadata,
        render_as_batch=True,  # SQLite changes a table by copying it
    )
    context.run_migrations()


main()
