"""A log whose key was replaced is checked with either key, and with the next one alone."""

from __future__ import annotations

import base64
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulators.signing_desk import Desk
from sprat_controller.audit import checkpoints, exporting, log, proofs, retention
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.expiries import Policy
from sprat_controller.audit.expiring import Expiring
from sprat_controller.audit.export import Finding, Result, SignedHere, line, verify
from sprat_controller.audit.tree import Tree
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord
from sprat_proto import notes
from sprat_proto.audit_events import Tag
from sprat_proto.notes import VerifierKey
from sqlmodel import col, select


class Rotated:
    """A controller's log, and the keys that it had."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.desk = Desk(folder)
        self._begin()

    def _begin(self) -> None:
        self.checkpoints = Checkpoints(self.database, self.desk.core)

    def key(self) -> VerifierKey:
        return self.checkpoints.key()

    def grow(self) -> int:
        """Write a few records, have them signed, and return how many there are."""
        with self.database.transaction() as session:
            for number in range(3):
                subject = f"token/{number}"
                log.append(
                    session, Tag.TOKEN_CREATED, at=self.desk.now, actor="user:ann", subject=subject
                )
        signed = self.checkpoints.make(self.desk.now)
        assert signed is not None
        return signed.checkpoint.size

    def replace_key(self, *, keep: bool = True) -> None:
        """Have the signer sign with another key from now on, and with the former one or not."""
        keys, following = self.desk.keys, Ed25519PrivateKey.generate()
        self.desk.keys = replace(keys, log=following, former_log=keys.log if keep else None)
        self.desk.reopen()
        self._begin()

    def forget(self) -> None:
        self.desk.keys = replace(self.desk.keys, former_log=None)
        self.desk.reopen()
        self._begin()

    def export(self) -> list[bytes]:
        signed = self.checkpoints.make(self.desk.now)
        assert signed is not None
        return b"".join(exporting.whole(self.database, signed)).splitlines(keepends=True)

    def verified(self, *keys: VerifierKey) -> Finding:
        return verify(self.export(), keys)

    def changes(self) -> list[AuditRecord]:
        with self.database.reading() as session:
            wanted = col(AuditRecord.tag) == Tag.LOG_REKEYED.value
            return list(session.exec(select(AuditRecord).where(wanted)))


@pytest.fixture
def rotated(any_database: Database, tmp_path: Path) -> Generator[Rotated]:
    (tmp_path / "signer").mkdir()
    made = Rotated(any_database, tmp_path / "signer")
    made.grow()
    yield made
    made.desk.core.close()


def test_the_next_key_is_on_record_once_and_both_sign(rotated: Rotated) -> None:
    before = rotated.key()
    rotated.replace_key()
    # Nothing else happens: the record itself makes the log grow, so that both keys sign.
    for _ in range(3):
        rotated.checkpoints.make(rotated.desk.now)
    after = rotated.key()
    assert before != after
    assert before.name == after.name
    (change,) = rotated.changes()
    assert f'"before":"{before.key_id.hex()}"'.encode() in change.body
    assert f'"after":"{after.key_id.hex()}"'.encode() in change.body
    with rotated.database.reading() as session:
        newest = checkpoints.newest(session)
    assert newest is not None
    assert {one.key for one in notes.verify(newest.note, [before, after])} == {before, after}


def test_while_both_sign_either_is_enough(rotated: Rotated) -> None:
    before = rotated.key()
    rotated.replace_key()
    rotated.grow()
    for keys in ((before,), (rotated.key(),), (rotated.key(), before), (before, rotated.key())):
        assert rotated.verified(*keys).result is Result.INTACT, keys


def test_after_the_former_key_was_forgotten_it_is_no_longer_enough(rotated: Rotated) -> None:
    keys = [rotated.key()]
    for _ in range(2):
        rotated.replace_key()
        rotated.grow()
        rotated.forget()
        rotated.grow()
        keys.append(rotated.key())
    first, second, third = keys
    assert rotated.verified(first).result is Result.UNKNOWN_KEY
    assert rotated.verified(second).result is Result.UNKNOWN_KEY
    assert rotated.verified(third).result is Result.INTACT
    assert rotated.verified(third, first, second).result is Result.INTACT
    assert len(rotated.changes()) == 2


def test_a_key_that_was_replaced_at_once_is_named_by_the_log(rotated: Rotated) -> None:
    rotated.replace_key(keep=False)
    rotated.grow()
    assert rotated.verified(rotated.key()).result is Result.INTACT


def test_a_checkpoint_by_a_key_that_the_log_does_not_name_is_found(rotated: Rotated) -> None:
    rotated.replace_key()
    rotated.grow()
    lines, key = rotated.export(), rotated.key()
    with rotated.database.reading() as session:
        text = str(notes.Checkpoint(key.name, 2, Tree(session).root(2)))
    stranger = Ed25519PrivateKey.generate()
    note = str(notes.Note(text).signed(notes.sign(stranger, key.name, text)))
    at = next(at for at, one in enumerate(lines) if b'"seq":3,' in one)
    found = verify([*lines[:at], line(SignedHere(note)), *lines[at:]], [key])
    assert (found.result, found.seq) == (Result.TAMPERED, 3)
    assert "which no record names as a former key" in found.message


def test_what_names_a_former_key_never_expires(rotated: Rotated) -> None:
    rotated.replace_key()
    rotated.grow()
    rotated.forget()
    with rotated.database.transaction() as session:
        policy = Policy("", 183)
        retention.set_policy(session, policy, "", actor="user:ann", now=rotated.desk.now)
    rotated.desk.later(days=184)
    job = Expiring(rotated.database, rotated.checkpoints)
    while job.step(rotated.desk.now):
        pass
    rotated.grow()
    found = rotated.verified(rotated.key())
    assert found.result is Result.INTACT, found
    assert found.expired > 0


def test_that_the_log_only_grew_is_proved_across_the_change_with_both_keys(
    rotated: Rotated,
) -> None:
    before, old = rotated.key(), rotated.grow()
    rotated.replace_key(keep=False)
    new, after = rotated.grow(), rotated.key()
    with rotated.database.reading() as session:
        found = [checkpoints.find(session, size) for size in (old, new)]
        hashes = Tree(session).consistency(old, new)
    earlier, later = (one.note for one in found if one is not None)
    encoded = [base64.b64encode(one).decode() for one in hashes]
    data = msgspec.json.encode(proofs.Consistency(1, str(earlier), str(later), encoded))
    assert proofs.verify(data, [after, before]).result is Result.INTACT
    assert proofs.verify(data, [after]).result is Result.UNKNOWN_KEY
    assert proofs.verify(data, [before]).result is Result.UNKNOWN_KEY


def test_a_checkpoint_by_a_former_key_stands_once(rotated: Rotated) -> None:
    rotated.replace_key()
    rotated.grow()
    rotated.forget()
    rotated.grow()
    lines, key = rotated.export(), rotated.key()
    first = next(at for at, one in enumerate(lines) if one.startswith(b'{"checkpoint"'))
    found = verify([*lines[:first], lines[first], *lines[first:]], [key])
    assert found.result is Result.TAMPERED
    assert "after record 3: the checkpoint of 3 stands in the wrong place" in found.message
