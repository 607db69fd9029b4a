"""Going on with an audit log whose database is older than what was signed, as after a backup.

The signer refuses such a log, as it must: records are gone. Whoever holds its key says so here.
From an export that verifies the lost records are put back, byte for byte; what stays lost is said
by the first record after it, and by a statement that the signer signs of both states.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sql
from sprat_proto import notes
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import Frontier
from sprat_proto.notes import NoteError, VerifierKey
from sqlmodel import Session, col

from sprat_controller.audit import export, log, restorations
from sprat_controller.audit.export import Result
from sprat_controller.audit.restoration import State
from sprat_controller.audit.tree import Tree
from sprat_controller.errors import ConflictError
from sprat_controller.signer.core import SignerCore
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditCheckpoint, AuditRecord


@dataclass(frozen=True)
class Loss:
    """What a database lacks of what was signed.

    Attributes:
        signed: What the signer signed last.
        kept: What the database has.
        shared: Up to where both are surely the same: the newest checkpoint that the database has.
        last_at: When its last record was written; None: it has none.
    """

    signed: State
    kept: State
    shared: int
    last_at: datetime | None

    @property
    def lost(self) -> int:
        """How many records that were signed are not there, at most."""
        return self.signed.size - min(self.shared, self.signed.size)


def find(database: Database, signer: SignerCore) -> Loss | None:
    """Return what is lost; None: the database has all that was signed."""
    signed = signer.log_signed()
    if signed is None:
        return None
    with database.reading() as session:
        tree = Tree(session)
        if tree.size >= signed[0] and tree.root(signed[0]) == signed[1]:
            return None
        newest = sql.select(sql.func.max(col(AuditRecord.at)))
        return Loss(
            State(*signed),
            State(tree.size, tree.root(tree.size) if tree.size else Frontier().root()),
            _shared(session, tree, signer.log_keys()),
            session.connection().execute(newest).scalar(),
        )


def _shared(session: Session, tree: Tree, keys: Sequence[VerifierKey]) -> int:
    """Return the size of the newest checkpoint of the database that is of what is in it."""
    rows = session.connection().execute(
        sql.select(col(AuditCheckpoint.note)).order_by(col(AuditCheckpoint.size).desc())
    )
    for text in rows.scalars():
        try:
            note = notes.read_note(text)
            notes.verify(note, keys)
            checkpoint = notes.read_checkpoint(note.text)
        except NoteError:
            continue
        if 0 < checkpoint.size <= tree.size and tree.root(checkpoint.size) == checkpoint.root:
            return checkpoint.size
    return 0


@dataclass(frozen=True)
class Word:
    """Why a log is restored, and when: it stands in the log."""

    reason: str
    now: datetime


def refill(
    database: Database, loss: Loss, file: Path, keys: Sequence[VerifierKey], word: Word
) -> int:
    """Put records back from a whole export; return how many. All of them, or none.

    If nothing is lost then, the log says in the same transaction that it was restored.

    Args:
        database: As it was restored, and nothing was written since.
        loss: What it lacks.
        file: The export.
        keys: Of the log: one of them signed the export.
        word: What to say.

    Raises:
        ConflictError: The export is not intact, or not of this log, or the log went on.
        OSError: It cannot be read.
    """
    with file.open("rb") as lines:
        is_whole = export.is_whole(lines.readline())
        lines.seek(0)
        finding = export.verify(lines, keys)
    if finding.result is not Result.INTACT or not is_whole:
        raise ConflictError(
            "export_not_intact",
            f"expected in {file} a whole export of {keys[0].name}: {finding.message}",
        )
    if finding.records <= loss.kept.size:
        raise ConflictError(
            "export_too_old",
            f"the export has {finding.records} records, and the database {loss.kept.size}: it"
            " holds nothing that is lost",
        )
    put_back = finding.records - loss.kept.size
    with file.open("rb") as lines, database.transaction() as session:
        size = _put_back(session, loss, lines, word.now)
        if size >= loss.signed.size:
            _append(session, loss, {"put_back": put_back, "lost": 0}, word)
    return put_back


def _put_back(session: Session, loss: Loss, lines: Iterable[bytes], now: datetime) -> int:
    """Add what the database lacks, and return how many records it has then."""
    frontier, kept = Frontier(), loss.kept
    for one in lines:
        found = export.leaf_of(one)
        if found is None:
            note = export.note_of(one) if frontier.size > kept.size else None
            if note is not None:
                session.add(AuditCheckpoint(size=frontier.size, note=note, made_at=now))
            continue
        body, leaf = found
        frontier.append(leaf)
        if frontier.size == kept.size and frontier.root() != kept.root:
            raise _not_same(loss)
        if frontier.size > kept.size:
            log.refill(session, frontier.size, body, leaf)
        if frontier.size == loss.signed.size and frontier.root() != loss.signed.root:
            raise ConflictError(
                "not_what_was_signed",
                f"the first {frontier.size} records of the export are not those that were signed"
                " last: it is of before the log was restored another time",
            )
    return frontier.size


def _not_same(loss: Loss) -> ConflictError:
    return ConflictError(
        "log_went_on",
        f"the {loss.kept.size} records of the database are not the first of the export: the"
        " controller ran since the backup was restored; restore it again, and put the records back"
        " before the controller is started",
    )


def go_on(database: Database, signer: SignerCore, loss: Loss, word: Word) -> str:
    """Have the signer go on from what the database has, and say so; return the statement."""
    with database.reading() as session:
        tree = Tree(session)
        size = tree.size
        root = tree.root(size) if size else Frontier().root()
    missing = _missing(database, signer)
    statement = signer.restore_log(size, root, word.reason)
    # Those of before first: a witness reads them by their numbers.
    for one in missing:
        _say(database, None, one, word)
    _say(database, loss, statement, word)
    return statement


def say_missing(database: Database, signer: SignerCore, word: Word) -> int:
    """Write down each restoration that was signed and is not in the log: a kill came between.

    Nothing may be lost of the log: what could be put back may hold them.
    """
    missing = _missing(database, signer)
    for statement in missing:
        _say(database, None, statement, word)
    return len(missing)


def _missing(database: Database, signer: SignerCore) -> list[str]:
    with database.reading() as session:
        said = {one for one, _ in restorations.statements(session)}
    return [one for one in signer.restorations() if one not in said]


def _say(database: Database, loss: Loss | None, statement: str, word: Word) -> None:
    lost = {"lost": loss.lost} if loss is not None else {}
    with database.transaction() as session:
        _append(session, loss, {"statement": statement, **lost}, word)


def _append(session: Session, loss: Loss | None, said: dict[str, object], word: Word) -> None:
    detail: dict[str, object] = {"message": word.reason, **said}
    if loss is not None:
        for name, state in (("signed", loss.signed), ("backup", loss.kept)):
            detail[name] = {"size": state.size, "root": state.root.hex()}
        if loss.last_at is not None:
            detail["since"] = loss.last_at.isoformat()
    log.append(
        session,
        Tag.AUDIT_RESTORED,
        at=word.now,
        actor="controller",
        subject="log/controller",
        before=loss.signed.root.hex() if loss else None,
        after=loss.kept.root.hex() if loss else None,
        detail=detail,
    )
