from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.audit import log
from sprat_controller.audit.tree import Tree, bodies, hashes
from sprat_controller.audit.verify import (
    ChainReport,
    Kept,
    Link,
    verify_controller,
    verify_tree,
)
from sprat_controller.errors import ConflictError
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frontier": bytes(64)}, "lead to what is kept"),
        ({"size": 4}, "expected 4 records"),
        ({"size": 6}, "expected 6 records"),
        ({"roots": {7: bytes(32)}}, "at least 7 records, as was signed"),
        ({"roots": {5: bytes(32)}}, "the checkpoint of 5 was signed"),
        ({"roots": {2: bytes(32)}}, "the checkpoint of 2 was signed"),
        ({"roots": {2: b""}}, "the checkpoint of 2 was signed"),
        ({"roots": {0: bytes(32), 3: b"x"}}, "the checkpoint of 3 was"),
    ],
)
def test_records_lead_to_what_is_kept_and_to_what_was_signed(
    change: dict[str, Any], said: str
) -> None:
    log_, kept = links(5)
    tree = Frontier()
    roots: dict[int, bytes] = {}
    for link in log_:
        tree.append(leaf_hash(link.body))
        roots[tree.size] = tree.root()
    assert verify_tree(log_, replace(kept, roots=roots)).ok
    report = verify_tree(log_, replace(kept, **change))
    assert not report.ok
    assert said in report.message


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


def tampered(database: Database, *statements: str) -> ChainReport:
    """Change rows as who can drop triggers may, and return what is found."""
    with database.transaction() as session:
        run = session.connection().exec_driver_sql
        for table in ("audit_record", "audit_subtree", "audit_checkpoint"):
            for trigger in ("update", "delete"):
                run(f"DROP TRIGGER IF EXISTS {table}_no_{trigger}")
        for one in statements:
            run(one)
    with database.reading() as session:
        return verify_controller(session)


def in_second(change: str) -> str:
    return f"UPDATE audit_record SET {change} WHERE seq = 2"  # noqa: S608 - from this page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("actor = 'b'", "expected actor 'token:a' as signed, found 'b'"),
        ("tag = 'a:b:c'", "expected tag 'operator:token:created' as signed, found 'a:b:c'"),
        ("subject = 'x'", "expected subject 'device/d' as signed, found 'x'"),
        ("device_id = NULL", "expected device 'd' as signed, found None"),
        ("device_id = 'e'", "expected device 'd' as signed, found 'e'"),
        ("rollout_id = NULL", "expected rollout 'r' as signed, found None"),
        ("at = '2016-11-23 12:00:00'", "as signed, found '2016-11-23T12:00:00.000+00:00'"),
        ("body = X'ff'", "this record was changed"),
        ("body = X'', actor = '', tag = '', subject = ''", "its device is not"),
        ("hash = 'zz'", "found zz"),
    ],
)
def test_whatever_a_record_is_found_by_is_as_it_was_signed(
    database: Database, change: str, said: str
) -> None:
    with database.transaction() as session:
        for _ in range(3):
            about = {"rollout": "r", "n": 1}
            at = NOW + timedelta(microseconds=1999)
            log.append(
                session,
                Tag.TOKEN_CREATED,
                at=at,
                actor="token:a",
                subject="device/d",
                detail=about,
            )
    with database.reading() as session:
        assert verify_controller(session).ok
    report = tampered(database, in_second(change))
    assert (report.ok, report.records) == (False, 1)
    assert report.message.startswith("record 2: ")
    assert said in report.message


@pytest.mark.parametrize("digest", ["", "zz", "A" * 64, "0" * 63])
def test_a_record_without_a_body_has_a_hash(database: Database, digest: str) -> None:
    with database.transaction() as session:
        append(session, 3)
    empty = "body = X'', actor = '', tag = '', subject = ''"
    report = tampered(database, in_second(f"{empty}, hash = '{digest}'"))
    assert (report.ok, report.records) == (False, 1)
    assert report.message == "record 2: its body is gone, and its hash is none"


def test_a_body_that_is_nested_too_deeply_is_told() -> None:
    body = b"[" * 100_000 + b"]" * 100_000
    report = verify_tree([Link(1, body, leaf_hash(body).hex())], Kept(1, b""))
    assert not report.ok
    assert report.message.startswith("record 1: expected JSON: ")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ('DELETE FROM audit_subtree WHERE level = 1 AND "index" = 1', "found none"),
        (
            'UPDATE audit_subtree SET hash = zeroblob(32) WHERE "index" = 1',
            "found 0000000000000000",
        ),
    ],
)
def test_what_proofs_are_made_of_is_as_the_records_lead_to_it(
    database: Database, change: str, found: str
) -> None:
    with database.transaction() as session:
        append(session, 600)
    with database.reading() as session:
        assert verify_controller(session).ok
    report = tampered(database, change)
    assert not report.ok
    assert "the records 257 to 512 do not lead to the root that is kept of them" in report.message
    assert found in report.message


def test_a_missing_subtree_makes_no_proof(database: Database) -> None:
    with database.transaction() as session:
        append(session, 600)
    tampered(database, 'DELETE FROM audit_subtree WHERE "index" = 1')
    with (
        database.reading() as session,
        pytest.raises(ConflictError, match="level 1 from 0 on, fou"),
    ):
        hashes(session, 1, 0, 2)


@pytest.mark.parametrize("digest", ["zz", "00"])
def test_a_damaged_hash_is_no_crash(database: Database, digest: str) -> None:
    with database.transaction() as session:
        append(session, 3)
    tampered(database, in_second(f"hash = '{digest}'"))
    with database.reading() as session, pytest.raises(ConflictError) as refused:
        Tree(session).root(3)
    assert refused.value.code == "audit_damaged"
    with database.reading() as session:
        assert len(bodies(session, 0, 3)) == 3
        with pytest.raises(ConflictError, match="expected 2 records from 3 on, found 1"):
            bodies(session, 2, 2)


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
