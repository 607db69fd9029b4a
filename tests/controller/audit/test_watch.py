"""What a record says of the clock that its time is from."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from simulators.migrated import empty_database
from sprat_controller.audit import log, watch
from sprat_controller.audit.verify import verify_controller
from sprat_controller.audit.watch import Watch
from sprat_controller.clock import kernel_is_synchronised, uptime_ns
from sprat_controller.store.tables import AuditRecord
from sprat_proto.audit_events import Tag
from sqlmodel import col, select

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def test_a_clock_that_is_set_back_is_told_from_one_that_is_not(tmp_path: Path) -> None:
    database = empty_database(tmp_path / "controller.db")
    ticks, is_synchronised = itertools.count(1000, 1000), True

    def write(at: datetime) -> None:
        with database.transaction() as session:
            log.append(
                session, Tag.CONTROLLER_STARTED, at=at, actor="controller", subject="controller"
            )

    write(NOW)  # by a tool, which has no watch
    watch.put_on(database, Watch("boot-1", lambda: next(ticks), lambda: is_synchronised))
    write(NOW)
    is_synchronised = False
    write(NOW - timedelta(hours=1))
    with database.reading() as session:
        bodies = session.exec(select(AuditRecord.body).order_by(col(AuditRecord.seq))).all()
        assert verify_controller(session).ok
    found = [msgspec.json.decode(body) for body in bodies]
    assert not {"tsq", "boot", "mono"} & set(found[0])
    assert [(one["tsq"], one["boot"], one["mono"]) for one in found[1:]] == [
        ("synced", "boot-1", 1000),
        ("unsynced", "boot-1", 2000),
    ]
    # The time went back, the watch did not.
    assert found[2]["ts"] < found[1]["ts"]
    database.close()


def test_the_kernel_is_asked() -> None:
    assert kernel_is_synchronised() in {True, False}
    before = uptime_ns()
    assert uptime_ns() >= before > 0
