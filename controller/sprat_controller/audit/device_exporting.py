"""Writing an export of a device's own audit log: what `device_export` reads; and views of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sprat_proto import device_log, notes
from sprat_proto.audit_events import Tag
from sprat_proto.notes import Checkpoint, Note, NoteError, VerifierKey
from sqlmodel import Session, col, select

from sprat_controller.audit import device_export, expiring, export
from sprat_controller.audit.checkpoints import Signed
from sprat_controller.audit.exporting import PAGE, proved
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.store import queries
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Device, DeviceAuditRecord


@dataclass(frozen=True)
class Exported:
    """What an export of a device's log is of.

    Attributes:
        device_id: Whose log.
        head: The first line.
        key: What verifies the device's checkpoints.
        note: Its newest, signed.
        checkpoint: The same as it says; whether it is the device's, `device_export` verifies.
        vouching: Positions in the controller's log of what vouches for it.
        expired: Some of its records have.
    """

    device_id: str
    head: device_export.Head
    key: VerifierKey
    note: Note
    checkpoint: Checkpoint
    vouching: tuple[int, ...]
    expired: bool

    @property
    def size(self) -> int:
        """How many records the device signed."""
        return self.checkpoint.size


def prepare(session: Session, device: Device, signed: Signed, *, expiries: bool = True) -> Exported:
    """Look up what an export of a device's log begins with.

    Args:
        session: Where it is kept.
        device: Whose log.
        signed: The controller's checkpoint that what vouches for it is proved by.
        expiries: With what says which records expired; that names other devices, too.

    Raises:
        NotFoundError: The device has signed no checkpoint yet.
        ConflictError: `audit_not_signed`: what says that records expired is in no checkpoint yet;
            `audit_not_readable`: the device's key or checkpoint is none.
    """
    if not device.audit_checkpoint:
        raise NotFoundError(
            "checkpoint_not_found",
            f"the device {device.id} has signed no checkpoint of its log yet",
        )
    try:
        note = notes.read_note(device.audit_checkpoint)
        checkpoint = notes.read_checkpoint(note.text)
        key = device_log.verifier(device.id, device.audit_key)
    except NoteError as error:
        raise ConflictError(
            "audit_not_readable",
            f"what is kept of the log of {device.id} is not what the device told: {error}",
        ) from error
    head = device_export.Head(
        device_export.VERSION, device.id, str(key), device.audit_checkpoint, expiries
    )
    enrolled = session.exec(
        select(AuditRecord.seq).where(
            AuditRecord.tag == Tag.DEVICE_ENROLLED.value,
            AuditRecord.subject == f"device/{device.id}",
        )
    )
    expired = {seq for _, _, seq in expiring.ranges_of_device(session, device.id)}
    vouching = sorted({*enrolled, *(expired if expiries else ())})
    if vouching and vouching[-1] > signed.checkpoint.size:
        raise ConflictError(
            "audit_not_signed",
            f"record {vouching[-1]} of the controller's log is in no checkpoint yet: try again when"
            " the signer has signed it",
        )
    return Exported(device.id, head, key, note, checkpoint, tuple(vouching), bool(expired))


def whole(database: Database, signed: Signed, exported: Exported) -> Iterator[bytes]:
    """Yield the export, a page at a time."""
    yield device_export.line(exported.head)
    wanted = {"device_log": exported.device_id}
    yield export.line(export.Head(export.VERSION, str(signed.note), whole=False, wanted=wanted))
    seq = col(AuditRecord.seq)
    for start in range(0, len(exported.vouching), PAGE):
        chosen = exported.vouching[start : start + PAGE]
        # As in `exporting`: nothing is sent inside.
        with database.reading() as session:
            rows = session.exec(select(AuditRecord).where(seq.in_(chosen)).order_by(seq)).all()
            page = b"".join(proved(session, rows, signed.checkpoint.size))
        yield page
    yield export.line(export.End(len(exported.vouching)))
    for rows in _pages(database, exported):
        yield b"".join(
            device_export.record_line(row.body, row.hash, row.seal or b"", row.seq) for row in rows
        )
    yield device_export.line(export.End(exported.size))


def view(
    database: Database, exported: Exported, render: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    """Yield a view of a device's records; those that expired are left out."""
    for rows in _pages(database, exported):
        yield b"".join(render(row.body) for row in rows if row.body)


def _pages(database: Database, exported: Exported) -> Iterator[list[DeviceAuditRecord]]:
    after = 0
    while after < exported.size:
        with database.reading() as session:
            rows = queries.device_audit_page(session, exported.device_id, after=after, limit=PAGE)
            now = {seq for _, _, seq in expiring.ranges_of_device(session, exported.device_id)}
        if exported.head.expiries and now - set(exported.vouching):
            raise ConflictError("audit_not_signed", "records expired meanwhile: export it again")
        page = [row for row in rows if row.seq <= exported.size]
        if not page:
            return
        yield page
        after = page[-1].seq
