from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.audit import log
from sprat_controller.audit.chain import GENESIS, chain
from sprat_controller.audit.verify import Link, verify, verify_controller, verify_device
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, DeviceAuditRecord
from sprat_proto import canonical
from sprat_proto.audit_events import Tag
from sqlmodel import Session, select

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def links(count: int) -> list[Link]:
    made: list[Link] = []
    head = GENESIS
    for seq in range(1, count + 1):
        body = canonical.encode({"seq": seq, "tag": "a:b:c"})
        head = chain(head, body)
        made.append(Link(seq, body, head, (("tag", "a:b:c"),)))
    return made


@given(st.integers(0, 20))
def test_an_unbroken_log_is_found_whole(count: int) -> None:
    report = verify(links(count))
    assert report.ok
    assert report.records == count
    assert (report.head is None) == (count == 0)


@given(st.integers(2, 12), st.data())
def test_whatever_is_done_to_a_log_is_found_where_it_was_done(
    count: int, data: st.DataObject
) -> None:
    log_ = links(count)
    where = data.draw(st.integers(0, count - 2))
    match data.draw(st.sampled_from(["body", "hash", "copy", "removed", "swapped", "repeated"])):
        case "body":
            body = canonical.encode({"seq": where + 1, "tag": "x:y:z"})
            log_[where] = replace(log_[where], body=body)
        case "hash":
            log_[where] = replace(log_[where], hash="0" * 64)
        case "copy":
            log_[where] = replace(log_[where], copies=(("tag", "x:y:z"),))
        case "removed":
            del log_[where]
        case "swapped":
            log_[where], log_[where + 1] = log_[where + 1], log_[where]
        case _:
            log_.insert(where + 1, log_[where])
            where += 1
    report = verify(log_)
    assert not report.ok
    assert report.records == where
    assert f"{where + 1}" in report.message


def test_a_record_whose_body_is_no_json_is_told() -> None:
    report = verify([Link(1, b"\xff", chain(GENESIS, b"\xff"))])
    assert not report.ok
    assert "expected JSON" in report.message


def append(session: Session, count: int) -> None:
    for number in range(count):
        log.append(session, Tag.TOKEN_CREATED, at=NOW, actor="token:a", subject=f"token/{number}")


def test_the_controllers_own_log_is_checked_with_the_copies_it_is_filtered_by(
    database: Database,
) -> None:
    with database.transaction() as session:
        append(session, 3)
    with database.reading() as session:
        assert verify_controller(session).records == 3
    with database.transaction() as session:
        # Who can drop a trigger can change a copy; the body tells.
        session.connection().exec_driver_sql("DROP TRIGGER audit_record_no_update")
        session.connection().exec_driver_sql("UPDATE audit_record SET actor = 'b' WHERE seq = 2")
    with database.reading() as session:
        report = verify_controller(session)
    assert not report.ok
    assert report.records == 1
    assert "record 2: expected actor 'token:a'" in report.message


def test_each_devices_log_is_its_own_chain(database: Database) -> None:
    with database.transaction() as session:
        for device_id, count in (("a", 2), ("b", 3)):
            for link in links(count):
                session.add(
                    DeviceAuditRecord(
                        device_id=device_id,
                        seq=link.seq,
                        body=link.body,
                        hash=link.hash,
                        received_at=NOW,
                    )
                )
    with database.reading() as session:
        assert verify_device(session, "a").records == 2
        assert verify_device(session, "b").records == 3
        assert verify_device(session, "c").message == "no records yet"


def append_and_fail(session: Session) -> None:
    append(session, 1)
    append(session, 1 // 0)


def test_a_record_is_kept_exactly_if_its_transaction_is(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as session:
        append_and_fail(session)
    with database.transaction() as session:
        append(session, 1)
    with database.reading() as session:
        assert [record.seq for record in session.exec(select(AuditRecord))] == [1]
        assert verify_controller(session).ok
