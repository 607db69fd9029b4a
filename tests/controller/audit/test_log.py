from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sqlalchemy as sql
from sprat_controller.access import scopes
from sprat_controller.audit import asking, log, tree
from sprat_controller.audit.tree import Tree
from sprat_controller.audit.verify import verify_controller
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.store import migrations
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditHead, AuditRecord, AuditSubtree
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import (
    EMPTY_ROOT,
    Frontier,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from sqlmodel import Session, col, select

if TYPE_CHECKING:
    from simulators.postgres import Cluster

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def append(session: Session, count: int) -> None:
    for number in range(count):
        log.append(session, Tag.TOKEN_CREATED, at=NOW, actor="token:a", subject=f"token/{number}")


def bodies(session: Session) -> list[bytes]:
    return list(session.exec(select(AuditRecord.body).order_by(col(AuditRecord.seq))))


def root_of(records: list[bytes]) -> bytes:
    frontier = Frontier()
    for record in records:
        frontier.append(leaf_hash(record))
    return frontier.root()


@pytest.mark.parametrize(
    ("subject", "detail", "device", "rollout"),
    [
        ("device/gw-1", {}, "gw-1", None),
        ("rollout/r", {}, None, "r"),
        ("execution/e", {"device": "gw-1", "rollout": "r"}, "gw-1", "r"),
        ("rollout/r", {"rollout": "other", "device": "gw-1"}, "gw-1", "r"),
        ("token/t", {"device": 7, "rollout": ""}, None, None),
        ("devices/gw-1", {}, None, None),
    ],
)
def test_a_record_is_found_by_the_device_and_the_rollout_it_is_about(
    any_database: Database,
    subject: str,
    detail: Mapping[str, object],
    device: str | None,
    rollout: str | None,
) -> None:
    with any_database.transaction() as session:
        seq = log.append(
            session, Tag.ROLLOUT_CREATED, at=NOW, actor="a", subject=subject, detail=detail
        )
    with any_database.reading() as session:
        row = session.get(AuditRecord, seq)
        assert row is not None
        assert (row.device_id, row.rollout_id) == (device, rollout)


def one_record(database: Database) -> dict[str, Any]:
    with database.reading() as session:
        (body,) = bodies(session)
        return msgspec.json.decode(body)


def test_a_record_says_of_which_request_it_came_and_how_its_actor_signed_in(
    database: Database,
) -> None:
    with asking.begin("req-1") as request, database.transaction() as session:
        request.identify("user:ann", authn="oidc", session="s-1")
        log.append(
            session,
            Tag.ROLLOUT_EDITED,
            at=NOW,
            actor="user:ann",
            subject="rollout/r",
            before="1",
            after="2",
            reason="WISH",
            scope="site=lyon",
        )
    assert one_record(database) == {
        "v": 2,
        "log": "controller",
        "seq": 1,
        "ts": "2026-11-23T12:00:00.000+00:00",
        "actor": {"type": "user", "id": "ann", "authn": "oidc", "session": "s-1"},
        "tag": "operator:rollout:edited",
        "subject": "rollout/r",
        "scope": "site=lyon",
        "request": "req-1",
        "before": "1",
        "after": "2",
        "outcome": "success",
        "reason": "WISH",
        "detail": {},
    }


def test_a_scope_that_is_said_to_be_everything_is_not_the_askers(database: Database) -> None:
    with asking.begin("req-1") as request, database.transaction() as session:
        request.identify("user:ann")
        request.limit(scopes.read("site=lyon"))
        for scope in (None, ""):
            log.append(session, Tag.ROLLOUT_DUE, at=NOW, actor="user:ann", subject="r", scope=scope)
    with database.reading() as session:
        first, second = [msgspec.json.decode(one) for one in bodies(session)]
    assert first["scope"] == "site = lyon"
    assert "scope" not in second


def test_a_proof_is_of_a_record_that_the_log_of_the_size_has(database: Database) -> None:
    with database.transaction() as session:
        append(session, 10)
    with database.reading() as session:
        found = Tree(session)
        assert found.inclusion(3, 3)
        for seq, size, why in ((4, 3, "1 to 3"), (0, 3, "1 to 3"), (1, 11, "never as long")):
            with pytest.raises(NotFoundError, match=why):
                found.inclusion(seq, size)
        for old, new in ((0, 3), (4, 3), (3, 11)):
            with pytest.raises(NotFoundError):
                found.consistency(old, new)


def test_what_another_does_in_a_request_has_not_the_askers_session(database: Database) -> None:
    with asking.begin("req-1") as request, database.transaction() as session:
        request.identify("user:ann", authn="oidc", session="s-1")
        log.append(session, Tag.ROLLOUT_DUE, at=NOW, actor="planner", subject="rollout/r")
    assert one_record(database)["actor"] == {"type": "system", "id": "planner"}


def test_what_no_request_led_to_has_none(database: Database) -> None:
    with asking.begin("req-1"):
        pass
    with database.transaction() as session:
        append(session, 1)
    assert "request" not in one_record(database)


def test_an_empty_log_has_the_root_of_none(any_database: Database) -> None:
    with any_database.reading() as session:
        assert Tree(session).root(0) == EMPTY_ROOT


@pytest.mark.parametrize("steps", [[1], [255, 1, 1], [300, 300], [1] * 20])
def test_the_tree_is_that_of_the_records_however_they_came(
    any_database: Database, steps: list[int]
) -> None:
    for count in steps:
        with any_database.transaction() as session:
            append(session, count)
    with any_database.reading() as session:
        records, tree_ = bodies(session), Tree(session)
        assert tree_.size == len(records) == sum(steps)
        assert tree_.root(tree_.size) == root_of(records)
        for size in {1, tree_.size // 2 or 1, tree_.size - 1 or 1}:
            assert tree_.root(size) == root_of(records[:size])
        hashes = session.exec(select(AuditRecord.hash).order_by(col(AuditRecord.seq)))
        assert list(hashes) == [leaf_hash(one).hex() for one in records]
        assert verify_controller(session).ok


def test_every_proof_verifies(database: Database) -> None:
    with database.transaction() as session:
        append(session, 600)
    with database.reading() as session:
        records, tree_ = bodies(session), Tree(session)
        for size in (1, 255, 256, 257, 511, 512, 600):
            root = root_of(records[:size])
            for seq in {1, 2, size // 2 or 1, size}:
                if seq <= size:
                    proof, leaf = tree_.inclusion(seq, size), leaf_hash(records[seq - 1])
                    verify_inclusion(leaf, seq - 1, size, proof, root)
            proof = tree_.consistency(size, 600)
            verify_consistency(size, 600, proof, root, root_of(records))


def test_roots_of_complete_subtrees_are_kept_for_proofs(any_database: Database) -> None:
    with any_database.transaction() as session:
        append(session, 520)
    with any_database.reading() as session:
        kept = session.exec(select(AuditSubtree).order_by(col(AuditSubtree.index))).all()
        records = bodies(session)
        assert [(one.level, one.index, bytes(one.hash)) for one in kept] == [
            (1, 0, root_of(records[:256])),
            (1, 1, root_of(records[256:512])),
        ]
        assert tree.hashes(session, 1, 0, 2) == [bytes(one.hash) for one in kept]


def test_what_is_not_in_the_log_has_no_proof(database: Database) -> None:
    with database.transaction() as session:
        append(session, 3)
    with database.reading() as session:
        tree_ = Tree(session)
        for ask in (
            lambda: tree_.root(4),
            lambda: tree_.inclusion(0, 3),
            lambda: tree_.inclusion(4, 3),
            lambda: tree_.inclusion(1, 4),
            lambda: tree_.consistency(0, 3),
            lambda: tree_.consistency(3, 2),
            lambda: tree_.consistency(3, 4),
        ):
            with pytest.raises(NotFoundError):
                ask()


def test_a_missing_record_is_told_and_no_proof_made_without_it(database: Database) -> None:
    with database.transaction() as session:
        append(session, 5)
        session.connection().exec_driver_sql("DROP TRIGGER audit_record_no_delete")
        session.connection().exec_driver_sql("DELETE FROM audit_record WHERE seq = 2")
    with database.reading() as session, pytest.raises(ConflictError, match="damaged"):
        Tree(session).root(5)


def append_and_fail(session: Session) -> None:
    append(session, 300)
    append(session, 1 // 0)


def test_what_is_undone_is_not_in_the_tree(any_database: Database) -> None:
    with any_database.transaction() as session:
        append(session, 2)
    with pytest.raises(ZeroDivisionError), any_database.transaction() as session:
        append_and_fail(session)
    with any_database.transaction() as session:
        append(session, 1)
    with any_database.reading() as session:
        assert Tree(session).root(3) == root_of(bodies(session))
        assert verify_controller(session).records == 3
        assert session.exec(select(AuditSubtree)).all() == []


def test_two_controllers_append_to_one_tree(cluster: Cluster) -> None:
    url = cluster.url(cluster.create())
    first, second = Database(url), Database(url)
    migrations.upgrade(first)

    def work(database: Database) -> None:
        for _ in range(20):
            with database.transaction() as session:
                append(session, 7)

    threads = [threading.Thread(target=work, args=(one,)) for one in (first, second) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with first.reading() as session:
        records = bodies(session)
        assert len(records) == Tree(session).size == 4 * 20 * 7
        assert Tree(session).root(len(records)) == root_of(records)
        assert verify_controller(session).ok
        levels = session.exec(select(col(AuditSubtree.level), col(AuditSubtree.index)))
        assert sorted(levels) == [(1, 0), (1, 1)]
    first.close()
    second.close()


def test_the_head_is_one_row(any_database: Database) -> None:
    with any_database.transaction() as session:
        append(session, 3)
    with any_database.reading() as session:
        (head,) = session.connection().execute(sql.select(col(AuditHead.id), col(AuditHead.size)))
        assert tuple(head) == (1, 3)
