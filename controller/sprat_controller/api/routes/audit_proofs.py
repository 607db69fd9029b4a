"""What proves the controller's audit log: checkpoints, proofs, tiles, and exports with them.

Below `/audit`, checkpoint and tiles are where C2SP tlog-tiles has them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from sprat_proto import notes
from sprat_proto.notes import InclusionProof, NoteError
from sqlmodel import select

from sprat_controller import __version__
from sprat_controller.access import within
from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import Scope
from sprat_controller.api import schema
from sprat_controller.api.answers import contents
from sprat_controller.api.auth import (
    Asking,
    AskingPart,
    require,
    require_everywhere,
    while_allowed,
)
from sprat_controller.api.errors import CutOffError, error_answers
from sprat_controller.api.parts import AllParts, DatabasePart, Parts
from sprat_controller.api.routes.audit import Wanted
from sprat_controller.audit import (
    checkpoints,
    device_exporting,
    expiring,
    exporting,
    restorations,
    tree,
    views,
)
from sprat_controller.audit.checkpoints import Signed
from sprat_controller.audit.log import TILE_LEVELS
from sprat_controller.audit.tree import TILE_WIDTH, Tree
from sprat_controller.audit.views import Format
from sprat_controller.audit.views.record import PRODUCT, Origin
from sprat_controller.errors import (
    ConflictError,
    DeniedError,
    GoneError,
    NotFoundError,
    RequestError,
    UnavailableError,
)
from sprat_controller.fleet import inventory
from sprat_controller.signer.port import SignerError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord

router = APIRouter(prefix="/audit", tags=["audit"])
of_devices = APIRouter(prefix="/devices", tags=["audit"])
Auditor = Annotated[Actor, Depends(require(Permission.READ_AUDIT))]
WholeAuditor = Annotated[Actor, Depends(require_everywhere(Permission.READ_AUDIT))]
Position = Annotated[int, Query(ge=1, le=(1 << 63) - 1)]

_TILE: Final = re.compile(r"((?:x\d{3}/)*)(\d{3})(?:\.p/([1-9]\d?|1\d\d|2[0-4]\d|25[0-5]))?")
_MAX_ENTRY: Final = (1 << 16) - 1
_MAX_PATH: Final = 40
_TEXT: Final = frozenset({Format.CEF, Format.RFC5424})
_FOR_EVER: Final = {"cache-control": "private, max-age=31536000, immutable"}
_BYTES: Final = "application/octet-stream"
_JSON_LINES: Final = "application/x-ndjson"
_NOW: Final = {"cache-control": "no-cache"}


@router.get("/key", responses=error_answers(503))
def get_audit_key(_: Auditor, parts: AllParts) -> schema.AuditKey:
    """The public key of the log's checkpoints, as a C2SP vkey; its name is the log's origin."""
    try:
        key = parts.checkpoints.key()
    except SignerError as error:
        raise UnavailableError(error.code, error.message) from error
    return schema.AuditKey(origin=key.name, vkey=str(key))


@router.get(
    "/checkpoint",
    response_class=Response,
    responses=contents("text/plain") | error_answers(404, 422),
)
def get_audit_checkpoint(_: Auditor, parts: AllParts, size: Position | None = None) -> Response:
    """A checkpoint of all that is in the log, or the newest there is while none can be signed.

    With `size`, the one that was signed of so many records.
    """
    if size is None:
        return PlainTextResponse(str(newest(parts).note), headers=_NOW)
    with parts.database.reading() as session:
        found = checkpoints.find(session, size)
    if found is None:
        raise NotFoundError("checkpoint_not_found", f"no checkpoint was signed of {size} records")
    return PlainTextResponse(str(found.note), headers=_NOW)


@router.get(
    "/proof/inclusion", responses=error_answers(404, 409), response_model_exclude_defaults=True
)
def get_inclusion_proof(
    auditor: Auditor, parts: AllParts, seq: Position, size: Position | None = None
) -> schema.AuditInclusion:
    """The proof that a record is in the log, up to the newest checkpoint or one of a size."""
    scope = auditor.scope(Permission.READ_AUDIT)
    signed = newest(parts) if size is None else None
    with parts.database.reading() as session:
        if signed is None and size is not None:
            signed = checkpoints.find(session, size)
        seen = within.records(session, scope)
        row = session.exec(select(AuditRecord).where(AuditRecord.seq == seq, seen)).first()
        if signed is None or row is None:
            raise NotFoundError("record_not_found", f"there is no record {seq} in a checkpoint")
        hashes = Tree(session).inclusion(seq, signed.checkpoint.size)
    proof = InclusionProof(seq - 1, tuple(hashes), signed.note)
    return schema.AuditInclusion(
        seq=seq,
        hash=row.hash,
        size=signed.checkpoint.size,
        expired=not row.body,
        tlog_proof=str(proof),
    )


@router.get("/proof/consistency", responses=error_answers(404, 409))
def get_consistency_proof(
    _: Auditor,
    database: DatabasePart,
    old: Annotated[int, Query(alias="from", ge=1, le=(1 << 63) - 1)],
    new: Annotated[int, Query(alias="to", ge=1, le=(1 << 63) - 1)],
) -> schema.AuditConsistency:
    """The proof that the log of `to` records begins with that of `from`."""
    with database.reading() as session:
        hashes = Tree(session).consistency(old, new)
    listed = [base64.b64encode(one).decode() for one in hashes]
    return schema.AuditConsistency.model_validate({"from": old, "to": new, "hashes": listed})


@router.get("/restorations")
def list_restorations(_: Auditor, database: DatabasePart) -> schema.AuditRestorations:
    """Each time that the log went on from a database that lacked records: what a witness asks."""
    with database.reading() as session:
        found = restorations.statements(session)
    items = [schema.AuditRestoration(seq=seq, statement=said) for said, seq in found]
    return schema.AuditRestorations(items=items)


@router.post("/cosignatures", responses=error_answers(400, 404, 409, 413, 422))
def cosign_checkpoint(
    body: schema.NewCosignature, actor: WholeAuditor, parts: AllParts
) -> schema.AuditNote:
    """Keep a witness's cosignature of a checkpoint. It is verified: who reads may bring one."""
    try:
        key = notes.read_key(body.vkey)
    except NoteError as error:
        raise RequestError("bad_cosignature", str(error)) from error
    with parts.database.transaction() as session:
        signed = checkpoints.cosign(
            session, key, body.size, body.line, actor=actor.audit_name, now=parts.clock()
        )
    return schema.AuditNote(size=signed.checkpoint.size, note=str(signed.note))


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses=contents(_JSON_LINES, "text/plain") | error_answers(404, 409, 422),
)
def export_audit(
    wanted: Wanted,
    auditor: Auditor,
    asking: AskingPart,
    *,
    parts: AllParts,
    format_: Annotated[Format | None, Query(alias="format")] = None,
) -> StreamingResponse:
    """The log as JSON Lines with what verifying it needs: whole, or what is asked for of it.

    With `format`, the same records in a form for another system, without proofs: a line each.
    """
    signed, media = newest(parts), _JSON_LINES
    if format_ is not None:
        render = _render(format_, asking)
        lines = exporting.view(parts.database, wanted, signed.checkpoint.size, render)
        media = _media(format_)
    elif wanted.said():
        lines = exporting.part(parts.database, signed, wanted)
    else:
        with parts.database.reading() as session:
            expiring.check_covered(session, signed.checkpoint.size)
        lines = exporting.whole(parts.database, signed)
    # Of a long log this takes minutes: it ends with the right to read it.
    lines = while_allowed(asking, auditor, Permission.READ_AUDIT, _whole(lines))
    return StreamingResponse(lines, media_type=media, headers=_NOW)


@of_devices.get(
    "/{device_id}/audit/export",
    response_class=StreamingResponse,
    responses=contents(_JSON_LINES, "text/plain") | error_answers(404, 409, 422),
)
def export_device_audit(
    device_id: str,
    auditor: Auditor,
    asking: AskingPart,
    *,
    parts: AllParts,
    format_: Annotated[Format | None, Query(alias="format")] = None,
) -> StreamingResponse:
    """A device's own log up to its newest checkpoint, with what verifying it needs.

    With `format`, the same records in a form for another system, without proofs: a line each.
    """
    scope = auditor.scope(Permission.READ_AUDIT)
    with parts.database.reading() as session:
        inventory.find(session, device_id, scope)
    signed = newest(parts)
    with parts.database.reading() as session:
        device = inventory.find(session, device_id, scope)
        exported = device_exporting.prepare(session, device, signed)
    media = _JSON_LINES
    if format_ is not None:
        lines = device_exporting.view(parts.database, exported, _render(format_, asking))
        media = _media(format_)
    elif exported.expired and not scope.is_everything:
        raise DeniedError(
            "expiry_not_yours",
            "records of this log expired, and what says so names other devices, too: who exports it"
            " must read the audit log over everything",
        )
    else:
        lines = device_exporting.whole(parts.database, signed, exported)
    # A device that is moved out of the scope leaves it at once, and so does its log.
    lines = while_allowed(
        asking,
        auditor,
        Permission.READ_AUDIT,
        _whole(lines),
        partial(_is_there, parts.database, device_id),
    )
    return StreamingResponse(lines, media_type=media, headers=_NOW)


@router.get(
    "/tile/entries/{index:path}",
    response_class=Response,
    responses=contents(_BYTES) | error_answers(404, 409, 410),
)
def get_audit_entries(index: str, _: WholeAuditor, database: DatabasePart) -> Response:
    """A bundle of records, as C2SP tlog-tiles has it; it is gone once one of them expired."""
    number, width = _tile(index)
    with database.reading() as session:
        if number * TILE_WIDTH + width > tree.size(session):
            raise _no_tile(index)
        bodies = tree.bodies(session, number * TILE_WIDTH, width)
    for seq, one in enumerate(bodies, start=number * TILE_WIDTH + 1):
        if not one:
            raise GoneError(
                "entries_expired",
                f"record {seq} of this bundle expired: its hash is in the tile of level 0, and the"
                " records that are left are in the export",
            )
        if len(one) > _MAX_ENTRY:
            raise ConflictError(
                "entry_too_large",
                f"a record has {len(one)} bytes, and a bundle's entries at most {_MAX_ENTRY}: use"
                " the export",
            )
    data = b"".join(len(one).to_bytes(2) + one for one in bodies)
    return Response(data, headers=_FOR_EVER, media_type=_BYTES)


@router.get(
    "/tile/{level}/{index:path}",
    response_class=Response,
    responses=contents(_BYTES) | error_answers(404),
)
def get_audit_tile(level: int, index: str, _: WholeAuditor, database: DatabasePart) -> Response:
    """A tile of the log's tree, as C2SP tlog-tiles has it."""
    number, width = _tile(index)
    with database.reading() as session:
        if not 0 <= level < TILE_LEVELS or (
            number * TILE_WIDTH + width > tree.size(session) >> TILE_LEVELS * level
        ):
            raise _no_tile(f"{level}/{index}")
        hashes = tree.hashes(session, level, number * TILE_WIDTH, width)
    return Response(b"".join(hashes), headers=_FOR_EVER, media_type=_BYTES)


def _is_there(database: Database, device_id: str, scope: Scope) -> bool:
    with database.reading() as session:
        return inventory.is_there(session, device_id, scope)


def _whole(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield an export, and cut it off if records of it expire meanwhile."""
    try:
        yield from lines
    except ConflictError as error:
        raise CutOffError(error.message) from error


def _render(format_: Format, asking: Asking) -> Callable[[bytes], bytes]:
    origin = Origin(asking.request.url.hostname or PRODUCT, __version__)
    return partial(views.line, format_, origin=origin)


def _media(format_: Format) -> str:
    return "text/plain; charset=utf-8" if format_ in _TEXT else _JSON_LINES


def newest(parts: Parts) -> Signed:
    """Return the newest checkpoint, made if the log has grown and the signer signs it."""
    try:
        made = parts.checkpoints.make(parts.clock())
    except (SignerError, ConflictError):
        # `Checkpoints.look` raises the alarm; what was signed before is as good as ever.
        made = None
    if made is None:
        with parts.database.reading() as session:
            made = checkpoints.newest(session)
    if made is None:
        raise NotFoundError("checkpoint_not_found", "the audit log has no checkpoint yet")
    return made


def _tile(text: str) -> tuple[int, int]:
    """Read `x001/x234/067.p/5`: number and width."""
    match = _TILE.fullmatch(text)
    width = int(match[3] or TILE_WIDTH) if match else 0
    if match is None or len(text) > _MAX_PATH:
        raise _no_tile(text)
    return int(match[1].replace("x", "").replace("/", "") + match[2]), width


def _no_tile(text: str) -> NotFoundError:
    return NotFoundError("tile_not_found", f"there is no tile {text[:80]!r}")
