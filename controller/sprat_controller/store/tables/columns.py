"""What tables are made of: kinds of columns and indexes, the same in both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Table, TypeDecorator, text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel

Json = dict[str, Any]


class Int64(TypeDecorator[int]):
    """A whole number of up to 63 bits; SQLite's all are, PostgreSQL's INTEGER has 31."""

    impl = Integer
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[int]:
        """Return what the database calls it."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BigInteger())


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite has no time zones: everywhere it is stored without, read with one."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive moments, store UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("expected a moment with a time zone, found a naive one")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


def of(row: type[SQLModel]) -> Table:
    """Return the table of a kind of row, for statements about any of several tables."""
    return SQLModel.metadata.tables[cast("Any", row).__tablename__]


def moment(*, nullable: bool = False, index: bool = False) -> Column[datetime]:
    """Return a column of moments in UTC."""
    return Column(UtcDateTime(), nullable=nullable, index=index)


def partial(name: str, columns: tuple[str, ...], where: str) -> Index:
    """Return an index of the rows that meet a condition only."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))
