"""What saved plans and recurring rollouts can ever reach, so that lists are filtered by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.fleet import target_filter
from sprat_controller.fleet.filters.fields import FIELDS, Field, Kind
from sprat_controller.fleet.filters.tree import Matches, Pattern

revision = "0029"
down_revision = "0028"

# By table, the column that says to whom, and under which word.
_TARGETS: Final = {"saved_plan": ("asked", "target"), "recurrence": ("target", "")}


def upgrade() -> None:
    """Add the column, and fill it from the targets of before."""
    for table, (column, word) in _TARGETS.items():
        op.add_column(table, sa.Column("reach", sa.JSON(), nullable=True))
        _fill(sa.table(table, sa.column("id"), *_json(column, "reach")), column, word)
        with op.batch_alter_table(table) as changed:
            changed.alter_column("reach", existing_type=sa.JSON(), nullable=False)


def _json(*names: str) -> list[sa.ColumnClause[Any]]:
    return [sa.column(name, sa.JSON()) for name in names]


def _fill(table: sa.TableClause, column: str, word: str) -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.select(table.c.id, table.c[column])).all()
    for row_id, said in rows:
        change = sa.update(table).where(table.c.id == row_id)
        reach = _reach(said[word] if word else said)
        connection.execute(change.values(reach=reach.cases))


def _reach(target: Mapping[str, Any]) -> Scope:
    """Return what a target reaches, as it was said when this was made."""
    terms = [
        Matches(Field(key, Kind.LABEL), (Pattern((value,)),))
        for key, value in sorted(target["labels"].items())
    ]
    if target["devices"]:
        names = tuple(Pattern((name,)) for name in target["devices"])
        terms.append(Matches(FIELDS["device"], names))
    found = EVERYTHING
    for term in terms:
        found = found.narrowed(Scope(term))
    for text in (target.get("filter", ""), target.get("scope", "")):
        found = found.narrowed(Scope(target_filter.parse(text)))
    return found
