"""Checkpoints of the controller's audit log: signed elsewhere, kept here, cosigned by witnesses.

A checkpoint says how many records the log has and what their root is. The signer gives one only
with the proof that the log begins with what it signed last: who rewrites the rows here gets none
any more, and that is an alarm. Who controls the signer as well is found out by a witness, who keeps
the last checkpoint that he saw in a place of his own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
import sqlalchemy as sql
from sprat_proto import notes
from sprat_proto.audit_events import Tag
from sprat_proto.notes import Checkpoint, Note, NoteError, VerifierKey
from sqlmodel import Session, col

from sprat_controller.audit import log
from sprat_controller.audit.tree import Tree, damaged
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.signer.port import LogSigner, SignerError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditCheckpoint, AuditCosignature, AuditRecord

MAKE_EVERY: Final = timedelta(minutes=1)
ALARM_EVERY: Final = timedelta(days=1)
MAX_WITNESSES: Final = 16
# Another controller may have it signed further between two of our questions.
_TRIES: Final = 3
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signed:
    """A checkpoint as it is kept."""

    checkpoint: Checkpoint
    note: Note  # with the cosignatures that are kept
    made_at: datetime


class Checkpoints:
    """Has checkpoints made; any thread."""

    def __init__(self, database: Database, signer: LogSigner) -> None:
        self._database = database
        self._signer = signer
        self._key: VerifierKey | None = None
        self._looked: datetime | None = None
        self._alarmed: datetime | None = None

    def key(self) -> VerifierKey:
        """Return the public key of the log; its name is the log's origin.

        Raises:
            SignerError: The signer cannot be asked.
        """
        if self._key is None:
            self._key = notes.read_key(self._signer.log_state().vkey)
        return self._key

    def look(self, now: datetime) -> None:
        """Have a checkpoint made if the log has grown; may be called at any rate, by one thread."""
        # A clock that was set back makes it due, too.
        if self._looked is not None and timedelta() <= now - self._looked < MAKE_EVERY:
            return
        self._looked = now
        try:
            self.make(now)
        except (SignerError, ConflictError) as error:
            self._alarm(error, now)
        else:
            self._alarmed = None

    def make(self, now: datetime) -> Signed | None:
        """Return a checkpoint of the whole log, made if there is none; None: the log is empty.

        Raises:
            SignerError: It was not signed.
            ConflictError: `audit_damaged`: hashes of the log are missing.
        """
        for left in reversed(range(_TRIES)):
            state = self._signer.log_state()
            self._key = notes.read_key(state.vkey)
            self._say_new_key(self._key, now)
            with self._database.reading() as session:
                tree_ = Tree(session)
                kept = find(session, tree_.size)
                if tree_.size == 0:
                    return None
                # Rows that were rewritten may be as many as were signed, and those of a backup
                # fewer: both are the signer's to refuse.
                if (
                    kept is not None
                    and state.size <= tree_.size
                    and kept.checkpoint.root == tree_.root(tree_.size)
                ):
                    return kept
            try:
                return self._sign(state.size, now)
            except SignerError:
                if left == 0 or self._signer.log_state().size == state.size:
                    raise
        raise AssertionError("the last try returns or raises")

    def _say_new_key(self, key: VerifierKey, now: datetime) -> None:
        """Write down that the log's key is another one, once: the log grows, and is signed anew."""
        with self._database.reading() as session:
            last = newest(session)
            by = (
                [one.key_id for one in last.note.signatures if one.name == key.name] if last else []
            )
            if not by or key.key_id in by or _last_key(session) == key.key_id.hex():
                return
        with self._database.transaction() as session:
            log.append(
                session,
                Tag.LOG_REKEYED,
                at=now,
                actor="controller",
                subject="log/controller",
                before=by[0].hex(),
                after=key.key_id.hex(),
                detail={"vkey": str(key)},
            )

    def _sign(self, signed: int, now: datetime) -> Signed:
        with self._database.reading() as session:
            tree_ = Tree(session)
            root = tree_.root(tree_.size)
            # A log that is shorter than what was signed has no proof: the signer says so.
            proof = tree_.consistency(signed, tree_.size) if 0 < signed <= tree_.size else []
        note = self._signer.sign_checkpoint(tree_.size, root, proof)
        with self._database.transaction() as session:
            if session.get(AuditCheckpoint, tree_.size) is None:
                session.add(AuditCheckpoint(size=tree_.size, note=note, made_at=now))
                session.flush()
            return _signed(session, tree_.size)

    def _alarm(self, error: SignerError | ConflictError, now: datetime) -> None:
        """Say it once a day: each record that tells of it makes the log grow."""
        if self._alarmed is not None and timedelta() <= now - self._alarmed < ALARM_EVERY:
            return
        self._alarmed = now
        _logger.error("the audit log has no new checkpoint: %s", error.message)
        with self._database.transaction() as session:
            log.append(
                session,
                Tag.CHECKPOINT_LATE,
                at=now,
                actor="controller",
                subject="log/controller",
                outcome="failure",
                reason=error.code,
                detail={"message": error.message},
            )


def _last_key(session: Session) -> str | None:
    """Return what the log says last of a change of its key."""
    body = (
        session.connection()
        .execute(
            sql.select(col(AuditRecord.body))
            .where(col(AuditRecord.tag) == Tag.LOG_REKEYED.value)
            .order_by(col(AuditRecord.seq).desc())
            .limit(1)
        )
        .scalar()
    )
    return msgspec.json.decode(body).get("after") if body else None


def newest(session: Session) -> Signed | None:
    """Return the newest checkpoint that is kept, with its cosignatures."""
    largest = sql.select(sql.func.max(col(AuditCheckpoint.size)))
    size = session.connection().execute(largest).scalar()
    return _signed(session, size) if size else None


def find(session: Session, size: int) -> Signed | None:
    """Return the checkpoint of a size, with its cosignatures."""
    return _signed(session, size) if session.get(AuditCheckpoint, size) else None


def cosign(
    session: Session, key: VerifierKey, size: int, line: str, *, actor: str, now: datetime
) -> Signed:
    """Keep a witness's cosignature of a checkpoint; a newer one of the same replaces it.

    Args:
        session: A transaction.
        key: Of the witness.
        size: Of the checkpoint.
        line: The signature as it stands in a note.
        actor: Who brings it.
        now: The time.

    Raises:
        NotFoundError: There is no such checkpoint.
        RequestError: `bad_cosignature`: it is not of this key, or not of this checkpoint.
        ConflictError: `too_many_witnesses`.
    """
    found = find(session, size)
    if found is None:
        raise NotFoundError("checkpoint_not_found", f"there is no checkpoint of {size} records")
    if key.kind != notes.COSIGNER:
        raise RequestError(
            "bad_cosignature", f"expected a witness's key, found that of a log: {key.name}"
        )
    try:
        signature = notes.read_signature(line)
        notes.verify(Note(found.note.text, (signature,)), [key])
    except NoteError as error:
        raise RequestError("bad_cosignature", str(error)) from error
    where = sql.and_(col(AuditCosignature.size) == size, col(AuditCosignature.witness) == str(key))
    run = session.connection().execute
    run(sql.delete(AuditCosignature).where(where))
    of_size = sql.select(sql.func.count()).where(col(AuditCosignature.size) == size)
    if run(of_size).scalar_one() >= MAX_WITNESSES:
        raise ConflictError(
            "too_many_witnesses", f"a checkpoint is cosigned by at most {MAX_WITNESSES} witnesses"
        )
    session.add(AuditCosignature(size=size, witness=str(key), line=str(signature), received_at=now))
    session.flush()
    log.append(
        session,
        Tag.CHECKPOINT_COSIGNED,
        at=now,
        actor=actor,
        subject=f"checkpoint/{size}",
        after=found.checkpoint.root.hex(),
        detail={"witness": key.name, "key": key.key_id.hex()},
    )
    return _signed(session, size)


def _signed(session: Session, size: int) -> Signed:
    row = session.get_one(AuditCheckpoint, size)
    lines = session.connection().execute(
        sql.select(col(AuditCosignature.line))
        .where(col(AuditCosignature.size) == size)
        .order_by(col(AuditCosignature.witness))
    )
    try:
        note = notes.read_note(row.note)
        note = note.signed(*(notes.read_signature(line) for line in lines.scalars()))
        checkpoint = notes.read_checkpoint(note.text)
    except NoteError as error:
        raise damaged(f"the checkpoint of {size} records is none: {error}") from error
    return Signed(checkpoint, note, row.made_at)
