"""A database from a backup: what is lost is told, put back from an export, or accepted."""

from __future__ import annotations

import fcntl
import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sprat_controller.audit import (
    changes,
    exporting,
    log,
    restoration,
    restorations,
    restoring,
    witness,
)
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.export import Result, verify
from sprat_controller.audit.tree import Tree
from sprat_controller.audit.verify import verify_controller
from sprat_controller.audit.witness import Keeper, WitnessRefusedError
from sprat_controller.config import DataFolder
from sprat_controller.errors import StartupError
from sprat_controller.initialise import initialise
from sprat_controller.restore_audit import Talk, Wanted, restore
from sprat_controller.signer import rotation
from sprat_controller.signer.folder import LOG, SignerFolder
from sprat_controller.signer.port import SignerRefusedError
from sprat_controller.store import migrations
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import AuditCheckpoint, AuditRecord
from sprat_proto import notes
from sprat_proto.audit_events import Tag
from sqlmodel import col, select

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))


@dataclass
class House:
    """A controller's folder, with a log of which a backup is made."""

    path: Path
    now: datetime = NOW
    said: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.folder = DataFolder(self.path / "data")
        initialise(self.folder, ["c.test"], lambda: self.now)

    def append(self, count: int) -> None:
        database = self.open()
        with database.transaction() as session:
            for number in range(count):
                log.append(
                    session,
                    Tag.TOKEN_CREATED,
                    at=self.now,
                    actor="user:ann",
                    subject=f"token/{number}",
                    after=changes.digest({"number": number}),
                )
        database.close()
        self.now += timedelta(hours=1)

    def open(self) -> Database:
        return Database(sqlite_url(self.folder.database))

    def sign(self) -> notes.Note:
        """Have a checkpoint made as the controller does."""
        database, signer = self.open(), SignerFolder(self.folder.signer).open(lambda: self.now)
        try:
            signed = Checkpoints(database, signer).make(self.now)
            assert signed is not None
            return signed.note
        finally:
            signer.close()
            database.close()

    def export(self) -> Path:
        database, signer = self.open(), SignerFolder(self.folder.signer).open(lambda: self.now)
        signed = Checkpoints(database, signer).make(self.now)
        assert signed is not None
        file = self.path / "audit.jsonl"
        file.write_bytes(b"".join(exporting.whole(database, signed)))
        signer.close()
        database.close()
        return file

    def back_up(self) -> None:
        shutil.copy(self.folder.database, self.path / "backup.db")

    def go_back(self) -> None:
        for name in ("controller.db-wal", "controller.db-shm"):
            (self.folder.path / name).unlink(missing_ok=True)
        shutil.copy(self.path / "backup.db", self.folder.database)

    def restore(
        self, *, export: Path | None = None, accept: int | None = None, answer: str | None = None
    ) -> str:
        def ask(question: str) -> str:
            self.said.append(question)
            if answer is None:
                raise EOFError
            return answer

        wanted = Wanted("the disk broke", export, accept)
        return restore(self.folder, wanted, lambda: self.now, Talk(self.said.append, ask))

    def key(self) -> notes.VerifierKey:
        signer = SignerFolder(self.folder.signer).open(lambda: self.now)
        try:
            return notes.read_key(signer.log_state().vkey)
        finally:
            signer.close()

    def records(self) -> list[AuditRecord]:
        database = self.open()
        with database.reading() as session:
            rows = list(session.exec(select(AuditRecord).order_by(col(AuditRecord.seq))))
            assert verify_controller(session).ok
        database.close()
        return rows

    def statements(self) -> list[str]:
        database = self.open()
        with database.reading() as session:
            found = [statement for statement, _ in restorations.statements(session)]
        database.close()
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def lose(house: House, count: int = 7) -> tuple[int, int]:
    """Go on after a backup, and return to it; the sizes before and after."""
    house.append(5)
    house.sign()
    house.back_up()
    before = len(house.records())
    house.append(count)
    house.sign()
    after = len(house.records())
    house.go_back()
    with pytest.raises(SignerRefusedError):
        house.sign()
    return after, before


def test_what_is_lost_is_accepted_and_the_log_goes_on(house: House) -> None:
    signed, kept = lose(house)
    said = house.restore(accept=7)
    assert f"from {kept} records" in said
    assert f"signed were {signed} records" in house.said[0]
    assert f"the database has {kept}," in house.said[0]
    assert "at most 7 records are lost" in house.said[0]
    last = house.records()[-1]
    detail = json.loads(last.body)["detail"]
    assert last.tag == Tag.AUDIT_RESTORED.value
    assert last.seq == kept + 1
    assert (detail["signed"]["size"], detail["backup"]["size"]) == (signed, kept)
    assert (detail["lost"], detail["message"]) == (7, "the disk broke")
    made = restoration.read(detail["statement"], house.key())
    assert (made.before.size, made.after.size, made.number) == (signed, kept, 1)
    house.append(2)
    assert notes.read_checkpoint(house.sign().text).size == kept + 3
    with pytest.raises(StartupError, match="nothing changed"):
        house.restore(accept=7)


def test_the_signers_own_log_says_it_too(house: House) -> None:
    lose(house)
    house.restore(accept=7)
    signer = SignerFolder(house.folder.signer).open(lambda: house.now)
    assert len(signer.restorations()) == 1
    signer.close()


@pytest.mark.parametrize(
    ("accept", "answer"), [(6, None), (8, None), (0, None), (None, None), (None, "6")]
)
def test_what_is_not_accepted_changes_nothing(
    house: House, accept: int | None, answer: str | None
) -> None:
    lose(house)
    before = [row.body for row in house.records()]
    with pytest.raises(StartupError, match="--accept-loss 7"):
        house.restore(accept=accept, answer=answer)
    assert [row.body for row in house.records()] == before
    with pytest.raises(SignerRefusedError):
        house.sign()


def test_somebody_who_is_asked_may_answer(house: House) -> None:
    lose(house)
    house.restore(answer="7")
    house.sign()


def test_an_export_brings_back_all_that_is_lost(house: House) -> None:
    house.append(5)
    house.sign()
    house.back_up()
    house.append(300)
    house.sign()
    house.append(3)
    export = house.export()
    exported = export.read_bytes().splitlines(keepends=True)
    whole = [row.model_dump() for row in house.records()]
    house.go_back()
    assert "nothing of the log is lost" in house.restore(export=export)
    records = house.records()
    assert [row.model_dump() for row in records[:-1]] == whole
    detail = json.loads(records[-1].body)["detail"]
    assert (detail["put_back"], detail["lost"]) == (303, 0)
    assert house.statements() == []
    house.sign()
    again = house.export().read_bytes().splitlines(keepends=True)
    assert verify(again, [house.key()]).result is Result.INTACT
    assert again[1:-3] == exported[1:-1]


def test_an_export_by_the_former_key_brings_back_what_it_has(house: House) -> None:
    house.append(5)
    house.sign()
    house.back_up()
    house.append(10)
    export, former = house.export(), house.key()
    rotation.new_key(SignerFolder(house.folder.signer), LOG)
    rotation.use_key(SignerFolder(house.folder.signer), LOG)
    house.append(2)
    house.sign()
    signed = len(house.records())
    house.go_back()
    house.restore(export=export, accept=3)  # with the record of the next key
    assert json.loads(house.records()[-1].body)["detail"]["lost"] == 3
    assert signed > len(house.records())
    house.append(1)
    house.sign()
    lines = house.export().read_bytes().splitlines(keepends=True)
    assert former != house.key()
    assert verify(lines, [house.key()]).result is Result.INTACT


def test_an_older_export_brings_back_what_it_has(house: House) -> None:
    house.append(5)
    house.sign()
    house.back_up()
    house.append(10)
    export = house.export()
    house.append(4)
    house.sign()
    house.go_back()
    house.restore(export=export, accept=4)
    detail = json.loads(house.records()[-1].body)["detail"]
    assert detail["lost"] == 4
    assert [row.tag for row in house.records()].count(Tag.AUDIT_RESTORED.value) == 1
    house.sign()


def changed(data: bytes) -> bytes:
    return data.replace(b'"user","id"', b'"user" ,"id"', 1).replace(b"success", b"failure", 1)


def test_an_export_that_is_not_whole_and_intact_brings_back_nothing(house: House) -> None:
    house.append(5)
    house.back_up()
    old = house.export().read_bytes()
    house.append(5)
    export = house.export()
    good = export.read_bytes()
    house.go_back()
    before = [row.body for row in house.records()]
    for data in (changed(good), good[:-30], b"", old):
        export.write_bytes(data)
        with pytest.raises(StartupError) as refused:
            house.restore(export=export, accept=5)
        assert refused.value.code == "not_restored"
        assert [row.body for row in house.records()] == before
    with pytest.raises(StartupError):
        house.restore(export=house.path / "missing")


def test_an_export_of_before_another_restoration_brings_back_nothing(house: House) -> None:
    house.append(5)
    house.sign()
    house.back_up()
    house.append(7)
    export = house.export()
    house.go_back()
    house.restore(accept=7)
    house.append(3)
    house.sign()
    house.go_back()
    before = [row.body for row in house.records()]
    with pytest.raises(StartupError, match="of before the log was restored another time"):
        house.restore(export=export)
    assert [row.body for row in house.records()] == before


def lose_twice(house: House) -> None:
    """Go on from a backup, and lose all that came then, with the word for the first loss."""
    house.append(5)
    house.sign()
    house.back_up()
    house.append(7)
    house.sign()
    house.go_back()
    house.restore(accept=7)
    house.append(3)
    house.sign()


def test_the_same_backup_may_be_restored_again_with_an_export_of_what_came_then(
    house: House,
) -> None:
    lose_twice(house)
    export, whole = house.export(), [row.body for row in house.records()]
    house.go_back()
    assert "nothing of the log is lost" in house.restore(export=export)
    assert [row.body for row in house.records()][:-1] == whole
    assert len(house.statements()) == 1
    house.sign()


def test_the_same_backup_may_be_accepted_again_and_a_witness_goes_on(house: House) -> None:
    lose_twice(house)
    keeper = Keeper("w", Ed25519PrivateKey.generate().private_bytes_raw().hex(), str(house.key()))
    keeper, _ = witness.cosign(keeper, house.sign(), [], 1)
    house.go_back()
    house.restore(accept=4)
    made = [restoration.read(one, house.key()) for one in house.statements()]
    assert [one.number for one in made] == [1, 2]
    keeper = witness.accept(keeper, house.statements())
    assert keeper.seen is not None
    note, proof = house.sign(), consistency(house, keeper.seen.size)
    witness.cosign(keeper, note, proof, 2)


def test_what_is_surely_the_same_is_what_a_checkpoint_of_it_says(house: House) -> None:
    house.append(5)
    house.sign()
    kept = len(house.records())
    house.back_up()
    house.append(3)
    lost = str(house.sign())
    house.go_back()
    house.append(3)
    database = house.open()
    with database.reading() as session:
        text = str(notes.Checkpoint(house.key().name, kept + 1, Tree(session).root(kept + 1)))
    forged = str(notes.Note(text).signed(notes.sign(STRANGER, house.key().name, text)))
    with database.transaction() as session:
        for size, note in ((kept + 3, lost), (kept + 2, "none"), (kept + 1, forged)):
            session.add(AuditCheckpoint(size=size, note=note, made_at=NOW))
    signer = SignerFolder(house.folder.signer).open(lambda: house.now)
    loss = restoring.find(database, signer)
    assert loss is not None
    assert (loss.shared, loss.lost, loss.kept.size) == (kept, 3, kept + 3)
    signer.close()
    database.close()


def test_a_log_that_went_on_is_told_to_go_back_once_more(house: House) -> None:
    house.append(5)
    house.sign()
    house.back_up()
    house.append(5)
    export = house.export()
    house.go_back()
    house.append(2)
    with pytest.raises(StartupError, match="restore it again"):
        house.restore(export=export)
    house.restore(accept=5)
    house.sign()


def test_a_kill_between_the_signer_and_the_log_is_made_good(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(house)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "_say", killed)
        with pytest.raises(KeyboardInterrupt):
            house.restore(accept=7)
    assert house.statements() == []
    assert "stands in it now" in house.restore(accept=7)
    assert len(house.statements()) == 1
    house.sign()


def test_a_kill_after_all_was_put_back_leaves_the_word_for_it_in_the_log(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.append(5)
    house.sign()
    house.back_up()
    house.append(7)
    export = house.export()
    house.go_back()
    put_back = restoring.refill

    def killed(*told: Any) -> int:
        put_back(*told)
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "refill", killed)
    with pytest.raises(KeyboardInterrupt):
        house.restore(export=export)
    detail = json.loads(house.records()[-1].body)["detail"]
    assert (detail["put_back"], detail["lost"]) == (7, 0)
    with pytest.raises(StartupError, match="nothing changed"):
        house.restore(export=export)
    house.sign()


def test_a_log_that_is_lost_altogether_begins_anew(house: House) -> None:
    house.append(5)
    house.sign()
    signed = len(house.records())
    for name in ("controller.db", "controller.db-wal", "controller.db-shm"):
        (house.folder.path / name).unlink(missing_ok=True)
    migrations.upgrade(house.open())
    house.restore(accept=signed)
    made = restoration.read(house.statements()[-1], house.key())
    assert (made.before.size, made.after.size) == (signed, 0)
    assert notes.read_checkpoint(house.sign().text).size == 1
    house.append(3)
    house.sign()


def test_nothing_is_done_beside_a_running_controller(house: House) -> None:
    lose(house)
    for lock in (house.folder.lock, SignerFolder(house.folder.signer).lock):
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(StartupError, match="stop it first"):
                house.restore(accept=7)


def test_a_witness_refuses_a_restored_log_until_it_is_told(house: House) -> None:
    house.append(5)
    house.sign()
    house.back_up()
    house.append(7)
    keeper = Keeper("w", Ed25519PrivateKey.generate().private_bytes_raw().hex(), str(house.key()))
    keeper, _ = witness.cosign(keeper, house.sign(), [], 1)
    house.go_back()
    with pytest.raises(WitnessRefusedError, match="was not restored"):
        witness.accept(keeper, [])
    house.restore(accept=7)
    house.append(20)
    note = house.sign()
    proof = consistency(house, restoration.read(house.statements()[0], house.key()).after.size)
    with pytest.raises(WitnessRefusedError):
        witness.cosign(keeper, note, proof, 2)
    told = witness.accept(keeper, house.statements())
    told = msgspec.json.decode(msgspec.json.encode(told), type=Keeper)
    told, _ = witness.cosign(told, note, proof, 2)
    with pytest.raises(WitnessRefusedError, match="was not restored since"):
        witness.accept(told, house.statements())
    other = msgspec.structs.replace(keeper, checkpoint=note.text.replace("\n", "\n9", 1))
    with pytest.raises(WitnessRefusedError, match="gave up"):
        witness.accept(other, house.statements())
    with pytest.raises(WitnessRefusedError, match="no restoration"):
        witness.accept(keeper, [str(note)])


def consistency(house: House, old: int) -> list[bytes]:
    database = house.open()
    with database.reading() as session:
        tree = Tree(session)
        proof = tree.consistency(old, tree.size)
    database.close()
    return proof
