"""Who is turned away stands in the log, each or as a number, and fills no disk."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sprat_controller.audit.denials import PER_MINUTE, Denials
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord
from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def refuse(denials: Denials, at: datetime, count: int = 1) -> None:
    for _ in range(count):
        denials.record(
            Tag.AUTH_DENIED,
            at=at,
            actor="stranger",
            subject="/api/v1/devices",
            detail={"code": "not_authenticated"},
        )


def written(database: Database) -> list[dict[str, Any]]:
    with database.reading() as session:
        rows = session.exec(select(AuditRecord.body).order_by(col(AuditRecord.seq)))
        return [json.loads(body) for body in rows]


def test_a_refusal_says_why(database: Database) -> None:
    refuse(Denials(database), NOW)
    (record,) = written(database)
    assert (record["outcome"], record["reason"]) == ("denied", "not_authenticated")
    assert record["detail"] == {"code": "not_authenticated"}


def test_what_is_beyond_the_bound_of_a_minute_is_counted_in_the_next(database: Database) -> None:
    denials = Denials(database)
    refuse(denials, NOW, PER_MINUTE + 7)
    assert len(written(database)) == PER_MINUTE
    refuse(denials, NOW + timedelta(seconds=59))
    assert len(written(database)) == PER_MINUTE
    refuse(denials, NOW + timedelta(seconds=60), 2)
    *_, first, second = [record["detail"] for record in written(database)]
    assert first["unrecorded_before"] == 8
    assert "unrecorded_before" not in second


def test_a_clock_that_was_set_back_hides_nobody(database: Database) -> None:
    denials = Denials(database)
    refuse(denials, NOW, PER_MINUTE + 3)
    refuse(denials, NOW - timedelta(hours=1))
    assert written(database)[-1]["detail"]["unrecorded_before"] == 3


class Full(Database):
    """A database that takes nothing for a while."""

    is_full = False

    @contextmanager
    def transaction(self, **told: Any) -> Generator[Session]:
        with super().transaction(**told) as session:
            yield session
            if self.is_full:
                raise OSError("disk full")


def test_what_could_not_be_written_is_counted_in_the_next(database: Database) -> None:
    full = Full(str(database.engine.url))
    denials = Denials(full)
    refuse(denials, NOW, PER_MINUTE + 2)
    full.is_full = True
    later = NOW + timedelta(minutes=1)
    for _ in range(3):
        with pytest.raises(OSError, match="disk full"):
            refuse(denials, later)
    full.is_full = False
    refuse(denials, later)
    assert written(database)[-1]["detail"]["unrecorded_before"] == 5
    full.close()
