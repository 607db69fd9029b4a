"""T34 of the adversarial tests: a controller rewrites its log, and nobody signs it any more."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulators.signing_desk import Desk
from sprat_controller.audit import checkpoints, log
from sprat_controller.audit.checkpoints import ALARM_EVERY, MAKE_EVERY, Checkpoints
from sprat_controller.audit.tree import Tree
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.signer.port import LogState, SignerRefusedError, SignerUnavailableError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditCheckpoint, AuditRecord
from sprat_proto import notes
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import Frontier, leaf_hash
from sqlmodel import Session, col, select

WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    (tmp_path / "signer").mkdir()
    made = Desk(tmp_path / "signer")
    yield made
    made.core.close()


def append(database: Database, desk: Desk, count: int) -> None:
    with database.transaction() as session:
        for number in range(count):
            subject = f"token/{number}"
            log.append(session, Tag.TOKEN_CREATED, at=desk.now, actor="user:ann", subject=subject)


def tags(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.exec(select(AuditRecord.tag).order_by(col(AuditRecord.seq))))


def test_a_checkpoint_is_signed_of_the_whole_log(any_database: Database, desk: Desk) -> None:
    made = Checkpoints(any_database, desk.core)
    assert made.make(desk.now) is None
    append(any_database, desk, 300)
    signed = made.make(desk.now)
    assert signed is not None
    assert signed.checkpoint.size == 300
    notes.verify(signed.note, [made.key()])
    assert signed.checkpoint.origin == made.key().name
    with any_database.reading() as session:
        assert signed.checkpoint.root == Tree(session).root(300)
        assert checkpoints.newest(session) == signed
    assert made.make(desk.now) == signed


def test_checkpoints_are_made_as_the_log_grows_and_each_is_kept(
    database: Database, desk: Desk
) -> None:
    made = Checkpoints(database, desk.core)
    for _ in range(3):
        append(database, desk, 5)
        made.look(desk.now)
        made.look(desk.now)  # too soon
        desk.later(seconds=MAKE_EVERY.total_seconds())
    made.look(desk.now)  # nothing new
    with database.reading() as session:
        assert sorted(session.exec(select(AuditCheckpoint.size))) == [5, 10, 15]


def test_the_signer_goes_on_from_what_it_signed_when_it_starts_anew(
    database: Database, desk: Desk
) -> None:
    append(database, desk, 3)
    Checkpoints(database, desk.core).make(desk.now)
    desk.reopen()
    append(database, desk, 3)
    signed = Checkpoints(database, desk.core).make(desk.now)
    assert signed is not None
    assert signed.checkpoint.size == 6


class LostReply:
    """A signer whose answer to one signature is lost, as by a kill between signing and keeping."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.loses = True

    def log_state(self) -> LogState:
        return self._desk.core.log_state()

    def sign_checkpoint(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        note = self._desk.core.sign_checkpoint(size, root, proof)
        if self.loses:
            self.loses = False
            raise SignerUnavailableError("signer_unavailable", "lost")
        return note


@pytest.mark.parametrize("more", [0, 4])
def test_a_checkpoint_whose_answer_was_lost_is_made_again(
    database: Database, desk: Desk, more: int
) -> None:
    append(database, desk, 2)
    made = Checkpoints(database, LostReply(desk))
    signed = made.make(desk.now)
    append(database, desk, more)
    signed = made.make(desk.now)
    assert signed is not None
    assert signed.checkpoint.size == 2 + more


def rewrite(session: Session, change: Callable[[list[AuditRecord]], list[AuditRecord]]) -> None:
    """Make the whole log anew around a change, as who owns the database can."""
    run = session.connection().exec_driver_sql
    for trigger in ("update", "delete", "replace"):
        for table in ("audit_record", "audit_subtree"):
            run(f"DROP TRIGGER {table}_no_{trigger}")
    rows = list(session.exec(select(AuditRecord).order_by(col(AuditRecord.seq))))
    kept: list[dict[str, Any]] = [row.model_dump() for row in change(rows)]
    session.expunge_all()
    run("DELETE FROM audit_record")
    run("DELETE FROM audit_subtree")
    frontier = Frontier()
    for seq, row in enumerate(kept, 1):
        leaf = leaf_hash(row["body"])
        frontier.append(leaf)
        session.add(AuditRecord.model_validate({**row, "seq": seq, "hash": leaf.hex()}))
    session.flush()
    run("UPDATE audit_head SET size = ?, frontier = ?", (frontier.size, bytes(frontier)))


def one_changed(rows: list[AuditRecord]) -> list[AuditRecord]:
    rows[4].body = rows[4].body.replace(b"success", b"failure")
    return rows


REWRITES: dict[str, Callable[[list[AuditRecord]], list[AuditRecord]]] = {
    "changed": one_changed,
    "removed": lambda rows: [*rows[:4], *rows[5:]],
    "inserted": lambda rows: [*rows[:4], rows[7], *rows[4:]],
    "reordered": lambda rows: [rows[1], rows[0], *rows[2:]],
    "shortened": lambda rows: rows[:5],
}


@pytest.mark.parametrize("more", [0, 1, 40])
@pytest.mark.parametrize("how", REWRITES)
def test_t34_a_controller_that_rewrites_its_log_gets_no_checkpoint(
    database: Database, desk: Desk, how: str, more: int
) -> None:
    append(database, desk, 20)
    made = Checkpoints(database, desk.core)
    before = made.make(desk.now)
    append(database, desk, 1)
    with database.transaction() as session:
        rewrite(session, REWRITES[how])
    append(database, desk, more)
    with pytest.raises(SignerRefusedError):
        made.make(desk.now)
    with database.reading() as session:
        assert checkpoints.newest(session) == before
    assert [record for record in desk.audited() if "checkpoint:refused" in record]


def test_t34_it_is_an_alarm_once_a_day_and_no_flood(database: Database, desk: Desk) -> None:
    append(database, desk, 20)
    made = Checkpoints(database, desk.core)
    made.look(desk.now)
    with database.transaction() as session:
        rewrite(session, REWRITES["changed"])
        log.append(session, Tag.TOKEN_CREATED, at=desk.now, actor="user:ann", subject="token/x")
    for _ in range(5):
        desk.later(minutes=5)
        made.look(desk.now)
    assert tags(database).count(Tag.CHECKPOINT_LATE.value) == 1
    desk.later(seconds=ALARM_EVERY.total_seconds())
    made.look(desk.now)
    assert tags(database).count(Tag.CHECKPOINT_LATE.value) == 2


def test_a_signer_that_is_away_is_an_alarm_and_the_next_checkpoint_covers_all(
    database: Database, desk: Desk
) -> None:
    append(database, desk, 2)
    signer = LostReply(desk)
    made = Checkpoints(database, signer)

    def away() -> LogState:
        raise SignerUnavailableError("signer_unavailable", "away")

    is_here, signer.log_state = signer.log_state, away
    made.look(desk.now)
    assert tags(database)[-1] == Tag.CHECKPOINT_LATE.value
    signer.log_state, signer.loses = is_here, False
    desk.later(seconds=MAKE_EVERY.total_seconds())
    made.look(desk.now)
    with database.reading() as session:
        assert list(session.exec(select(AuditCheckpoint.size))) == [3]


def test_a_witness_word_is_kept_with_the_checkpoint(database: Database, desk: Desk) -> None:
    append(database, desk, 4)
    signed = Checkpoints(database, desk.core).make(desk.now)
    assert signed is not None
    key = notes.verifier_key(WITNESS, "customer.example/w", notes.COSIGNER)
    for time_s in (1_790_000_000, 1_790_000_060):
        line = str(notes.cosign(WITNESS, key.name, signed.note.text, time_s))
        with database.transaction() as session:
            checkpoints.cosign(session, key, 4, line, actor="user:w", now=desk.now)
    with database.reading() as session:
        found = checkpoints.find(session, 4)
        assert found is not None
        (verified,) = notes.verify(found.note, [key])
        assert verified.time_s == 1_790_000_060
    assert tags(database)[-2:] == [Tag.CHECKPOINT_COSIGNED.value] * 2


def test_what_no_witness_said_is_not_kept(database: Database, desk: Desk) -> None:
    append(database, desk, 4)
    made = Checkpoints(database, desk.core)
    signed = made.make(desk.now)
    assert signed is not None
    key = notes.verifier_key(WITNESS, "w", notes.COSIGNER)
    good = str(notes.cosign(WITNESS, "w", signed.note.text, 1))
    other = str(notes.cosign(WITNESS, "w", signed.note.text.replace("\n4\n", "\n5\n"), 1))
    log_line = str(signed.note.signatures[0])
    for size, vkey, line, error in (
        (5, key, good, NotFoundError),
        (4, key, other, RequestError),
        (4, key, "no line", RequestError),
        (4, made.key(), log_line, RequestError),
        (4, key, log_line, RequestError),
    ):
        with pytest.raises(error), database.transaction() as session:
            checkpoints.cosign(session, vkey, size, line, actor="user:w", now=desk.now)
    with database.reading() as session:
        assert checkpoints.newest(session) == signed


def test_a_checkpoint_has_a_bound_of_witnesses(database: Database, desk: Desk) -> None:
    append(database, desk, 1)
    signed = Checkpoints(database, desk.core).make(desk.now)
    assert signed is not None

    def cosign(name: str) -> None:
        key = notes.verifier_key(WITNESS, name, notes.COSIGNER)
        line = str(notes.cosign(WITNESS, name, signed.note.text, 1))
        with database.transaction() as session:
            checkpoints.cosign(session, key, 1, line, actor="user:w", now=desk.now)

    for number in range(checkpoints.MAX_WITNESSES):
        cosign(f"w{number}")
    with pytest.raises(ConflictError, match="at most 16 witnesses"):
        cosign("one-more")


def test_a_kept_checkpoint_that_is_none_is_an_alarm(database: Database, desk: Desk) -> None:
    append(database, desk, 2)
    made = Checkpoints(database, desk.core)
    made.look(desk.now)
    with database.transaction() as session:
        run = session.connection().exec_driver_sql
        run("DROP TRIGGER audit_checkpoint_no_update")
        run("UPDATE audit_checkpoint SET note = 'none'")
    with database.reading() as session, pytest.raises(ConflictError, match="of 2 records is none"):
        checkpoints.newest(session)
    desk.later(minutes=5)
    made.look(desk.now)
    assert tags(database)[-1] == Tag.CHECKPOINT_LATE.value


@pytest.mark.parametrize(
    ("size", "root"),
    [(0, bytes(32)), (-1, bytes(32)), (1, b""), (1, b"x"), (1 << 63, bytes(32))],
)
def test_the_signer_signs_no_empty_log_and_no_other_hash(
    desk: Desk, size: int, root: bytes
) -> None:
    with pytest.raises(SignerRefusedError, match="expected a size from 1"):
        desk.core.sign_checkpoint(size, root, [])


def test_the_signer_asks_for_a_proof_whatever_the_controller_says(desk: Desk) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(3)]
    first, later = Frontier(1, leaves[:1]), Frontier(1, leaves[:1])
    later.append(leaves[1])
    note = desk.core.sign_checkpoint(1, first.root(), [])
    assert desk.core.sign_checkpoint(1, first.root(), []) == note
    assert len([one for one in desk.audited() if "checkpoint:signed" in one]) == 1
    for size, root, proof in (
        (2, later.root(), []),
        (2, later.root(), [leaves[2]]),
        (2, later.root(), [leaves[1], leaves[1]]),
        (1, leaves[1], []),
        (1, first.root(), [leaves[1]]),
    ):
        with pytest.raises(SignerRefusedError):
            desk.core.sign_checkpoint(size, root, proof)
    assert desk.core.log_state().size == 1
    desk.later(seconds=timedelta(minutes=1).total_seconds())
    desk.core.sign_checkpoint(2, later.root(), [leaves[1]])
    assert desk.core.log_state().size == 2
    with pytest.raises(SignerRefusedError, match="it lost some"):
        desk.core.sign_checkpoint(1, first.root(), [])
