"""A report and its proof as one file: evidence out of the database, and what was found in it.

Statements are made of the very lines that are written as evidence, and of no others.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Final

import sqlalchemy as sql
from sprat_proto import canonical
from sprat_proto.approval import ApproverPolicy
from sprat_proto.notes import Checkpoint, Note, VerifierKey
from sqlmodel import Session, col, select

from sprat_controller.access import within
from sprat_controller.audit import device_export, device_exporting, export, exporting
from sprat_controller.audit.checkpoints import Signed
from sprat_controller.audit.export import Finding, Result
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.report import page, readme
from sprat_controller.report.compose import Attached, Composer, Question
from sprat_controller.report.logs import Proof
from sprat_controller.report.record import CONTROLLER, Json, of_line
from sprat_controller.report.signatures import Kept
from sprat_controller.store.queries import AuditFilter
from sprat_controller.store.session import Database
from sprat_controller.store.tables import (
    Device,
    LoginSession,
    OperatorToken,
    RolloutApproval,
    Variant,
)

EVIDENCE: Final = "evidence.jsonl"
KEY: Final = "log.vkey"
_AT_ONCE: Final = 500  # names in one query
_SHA256: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Sources:
    """Where a report comes from.

    Attributes:
        database: All of it.
        key: What verifies the controller's log.
        signed: Its newest checkpoint.
        policy: Who may approve.
        wanted: Which records the asker may see, and asks for.
        sees_people: They may see who used what when last.
    """

    database: Database
    key: VerifierKey
    signed: Signed
    policy: ApproverPolicy
    wanted: AuditFilter
    sees_people: bool


@dataclass
class _Archive:
    """Files as they are written, and the SHA-256 of each."""

    made: zipfile.ZipFile
    at: datetime
    sums: dict[str, str] = field(default_factory=dict[str, str])

    @contextmanager
    def writing(self, name: str) -> Generator[_Hashed]:
        info = zipfile.ZipInfo(name, self.at.timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        with self.made.open(info, "w", force_zip64=True) as file:
            hashed = _Hashed(file)
            yield hashed
        self.sums[name] = hashed.sha256.hexdigest()

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as file:
            file.write(data)


class _Hashed:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)

    def passing(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Write chunks of whole lines, and yield these with their ends."""
        for chunk in chunks:
            self.write(chunk)
            yield from chunk.splitlines(keepends=True)


def write(into: IO[bytes], sources: Sources, question: Question) -> None:
    """Write a report as a zip file.

    Raises:
        TooLargeError: There is too much to say.
    """
    with zipfile.ZipFile(into, "w") as made:
        archive = _Archive(made, question.made_at)
        composer = Composer(question)
        composer.begin(_proof(sources))
        with archive.writing(EVIDENCE) as file:
            lines = _taking(composer, CONTROLLER, file.passing(_lines(sources)))
            _check(composer, CONTROLLER, lambda: export.verify(lines, [sources.key]), lines)
        archive.write("checkpoint", str(sources.signed.note).encode())
        archive.write(KEY, f"{sources.key}\n".encode())
        with sources.database.reading() as session:
            devices = _devices(session, sources.wanted)
        for device in devices:
            _take_device(archive, composer, sources, device)
        with sources.database.reading() as session:
            attached = _attached(session, composer, sources)
        for name, data in _files(attached):
            archive.write(name, data)
        report = composer.finish([one.id for one in devices], attached)
        report["files"] = dict(sorted(archive.sums.items()))
        archive.write("report.json", canonical.encode(report))
        archive.write("report.html", page.render(report).encode())
        archive.write("README.md", readme.render(report).encode())


def _proof(sources: Sources) -> Proof:
    checkpoint, note = sources.signed.checkpoint, sources.signed.note
    is_whole = not sources.wanted.said()
    return _of(CONTROLLER, EVIDENCE, sources.key, checkpoint, note, is_whole=is_whole)


def _of(
    log: str,
    file: str,
    key: VerifierKey,
    checkpoint: Checkpoint,
    note: Note,
    *,
    is_whole: bool = True,
) -> Proof:
    signers = tuple(dict.fromkeys(one.name for one in note.signatures))
    return Proof(
        log,
        file,
        checkpoint.origin,
        str(key),
        checkpoint.size,
        checkpoint.root.hex(),
        signers,
        is_whole,
    )


def _lines(sources: Sources) -> Iterator[bytes]:
    if sources.wanted.said():
        return exporting.part(sources.database, sources.signed, sources.wanted)
    return exporting.whole(sources.database, sources.signed)


def _devices(session: Session, wanted: AuditFilter) -> Sequence[Device]:
    seen, asked = (within.devices(session, one) for one in (wanted.within, wanted.concerning))
    return session.exec(select(Device).where(seen, asked).order_by(col(Device.id))).all()


def _take_device(archive: _Archive, composer: Composer, sources: Sources, device: Device) -> None:
    """Take a device's log as far as its own checkpoint goes; without one there is no proof."""
    try:
        with sources.database.reading() as session:
            exported = device_exporting.prepare(
                session, device, sources.signed, expiries=sources.wanted.within.is_everything
            )
    except (NotFoundError, ConflictError) as error:
        composer.lacks(device.id, error.message)
        return
    name = f"devices/{device.id}.jsonl"
    composer.begin(_of(device.id, name, exported.key, exported.checkpoint, exported.note))
    with archive.writing(name) as file:
        chunks = device_exporting.whole(sources.database, sources.signed, exported)
        lines = _taking_own(composer, device.id, file.passing(chunks))
        _check(composer, device.id, lambda: device_export.verify(lines, [sources.key]), lines)


def _taking(composer: Composer, log: str, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of an export, and have the records in them taken."""
    for one in lines:
        record = of_line(log, one)
        if record is not None:
            composer.take(record)
        yield one


def _taking_own(composer: Composer, device: str, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Do so of a device's log, where records of the controller's come first."""
    for one in lines:
        yield one
        if device_export.is_end(one):
            break
    yield from _taking(composer, device, lines)


def _check(
    composer: Composer, log: str, verify: Callable[[], Finding], lines: Iterator[bytes]
) -> None:
    """Verify what is written while it is written, and say what is wrong with it."""
    found = verify()
    # What does not fit is named, and all that is there is still written.
    deque(lines, maxlen=0)
    if found.result is not Result.INTACT:
        composer.is_at_fault(log, found.message)


def _attached(session: Session, composer: Composer, sources: Sources) -> Attached:
    approvers = {one.key.key_id: one.public_pem for one in sources.policy.approvers}
    kept = [
        Kept(row.rollout_id, row.actor, row.key_id, row.envelope)
        for ids in _in_parts(composer.rollouts_seen())
        for row in session.exec(
            select(RolloutApproval).where(
                col(RolloutApproval.rollout_id).in_(ids), RolloutApproval.envelope != ""
            )
        )
    ]
    manifests = {
        digest: bytes(manifest)
        # Devices may name anything as one.
        for digests in _in_parts([one for one in composer.digests() if _SHA256.fullmatch(one)])
        for digest, manifest in session.connection().execute(
            sql.select(col(Variant.digest), col(Variant.manifest)).where(
                col(Variant.digest).in_(digests)
            )
        )
    }
    last_used = _last_used(session) if sources.sees_people else None
    return Attached(manifests, kept, approvers, last_used)


def _files(attached: Attached) -> Iterator[tuple[str, bytes]]:
    for digest, manifest in sorted(attached.manifests.items()):
        yield f"manifests/{digest}.json", manifest
    for one in sorted(attached.kept, key=lambda kept: kept.file):
        yield one.file, one.envelope.encode()
    yield "approvers.json", canonical.encode(dict(attached.approvers))


def _last_used(session: Session) -> list[Json]:
    tokens = session.exec(select(OperatorToken).order_by(col(OperatorToken.id))).all()
    sessions = session.exec(select(LoginSession).order_by(col(LoginSession.id))).all()
    return [
        {"records": {}, "kind": kind, "id": one.id, "subject": one.subject_id, "at": at}
        for kind, rows in (("token", tokens), ("session", sessions))
        for one in rows
        for at in [one.last_used_at.isoformat() if one.last_used_at else ""]
    ]


def _in_parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), _AT_ONCE):
        yield names[at : at + _AT_ONCE]
