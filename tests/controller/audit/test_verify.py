from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.audit import log
from sprat_controller.audit.verify import Kept, Link, verify_controller, verify_tree
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord
from sprat_proto import canonical
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import Frontier, leaf_hash
from sqlmodel import Session, select

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def links(count: int) -> tuple[list[Link], Kept]:
    """Return a log, and what is kept of it beside its records."""
    made: list[Link] = []
    tree = Frontier()
    for seq in range(1, count + 1):
        body = canonical.encode({"seq": seq, "tag": "a:b:c"})
        tree.append(leaf_hash(body))
        made.append(Link(seq, body, leaf_hash(body).hex(), (("tag", "a:b:c"),)))
    return made, Kept(count, bytes(tree))


@given(st.integers(0, 20))
def test_an_unbroken_log_is_found_whole(count: int) -> None:
    report = verify_tree(*links(count))
    assert report.ok
    assert report.records == count
    assert (report.head is None) == (count == 0)


@given(st.integers(2, 12), st.data())
def test_whatever_is_done_to_a_log_is_found_where_it_was_done(
    count: int, data: st.DataObject
) -> None:
    log_, kept = links(count)
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
    report = verify_tree(log_, kept)
    assert not report.ok
    assert report.records == where
    assert f"{where + 1}" in report.message


def test_a_record_whose_body_is_no_json_is_told() -> None:
    report = verify_tree([Link(1, b"\xff", leaf_hash(b"\xff").hex())], Kept(1, b""))
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
