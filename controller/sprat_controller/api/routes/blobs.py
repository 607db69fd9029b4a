"""Blobs by digest: upload for publishers, download with Range for devices."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import schema
from sprat_controller.api.answers import contents
from sprat_controller.api.auth import blob_reader, require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import BlobsPart, DatabasePart, Now
from sprat_controller.errors import NotFoundError, RequestError
from sprat_controller.registry.blobs import BlobStore, Upload, register
from sprat_controller.store.tables import Blob

uploads = APIRouter(prefix="/blobs/sha256", tags=["blobs"])
downloads = APIRouter(prefix="/blobs/sha256", tags=["blobs"])
Publisher = Annotated[Actor, Depends(require(Permission.PUBLISH))]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in hex")]
# Writes and hashes in one step off the loop; larger ones save hops, smaller ones save memory.
_CHUNK_BYTES: Final = 1 << 20
_BYTES: Final = "application/octet-stream"
_CONTENTS: Final = contents(_BYTES) | contents(_BYTES, status=206)
_RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,15})-([0-9]{0,15})\s*(,.*)?")


@uploads.head("/{sha256}", responses=error_answers(404), include_in_schema=False)
def has_blob(sha256: Digest, _: Publisher, database: DatabasePart) -> Response:
    """Tell whether the blob is here, whole."""
    with database.reading() as session:
        row = session.get(Blob, sha256)
    if row is None:
        raise NotFoundError("blob_not_found", f"there is no blob with the SHA-256 {sha256}")
    return Response(headers={"content-length": str(row.size), "etag": f'"{sha256}"'})


@uploads.put(
    "/{sha256}",
    status_code=201,
    response_model=schema.BlobAnswer,
    responses=error_answers(422, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"format": "binary"}}},
        }
    },
)
async def put_blob(
    sha256: Digest,
    publisher: Publisher,
    request: Request,
    response: Response,
    *,
    blobs: BlobsPart,
    database: DatabasePart,
    now: Now,
    content_length: Annotated[int | None, Header(ge=0)] = None,
) -> schema.BlobAnswer:
    """Upload a blob; bytes with another SHA-256 are refused and leave nothing."""
    upload = await asyncio.to_thread(blobs.begin, sha256, content_length)
    try:
        await _receive(request, upload)
        size = await asyncio.to_thread(upload.finish)
    finally:
        await asyncio.to_thread(upload.abort)

    def keep() -> bool:
        with database.transaction() as session:
            return register(session, sha256, size, actor=publisher.audit_name, now=now)

    is_new = await asyncio.to_thread(keep)
    response.status_code = 201 if is_new else 200
    return schema.BlobAnswer(sha256=sha256, size=size)


async def _receive(request: Request, upload: Upload) -> None:
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= _CHUNK_BYTES:
                await asyncio.to_thread(upload.write, bytes(waiting))
                waiting.clear()
    except ClientDisconnect as error:
        raise RequestError("upload_broken", "the upload ended early: send it again") from error
    await asyncio.to_thread(upload.write, bytes(waiting))


@downloads.get(
    "/{sha256}",
    dependencies=[Depends(blob_reader)],
    response_class=FileResponse,
    responses=_CONTENTS | error_answers(401, 403, 404, 416, 422),
)
def get_blob(
    sha256: Digest,
    blobs: BlobsPart,
    range_: Annotated[str | None, Header(alias="range")] = None,
) -> FileResponse:
    """Download a blob, or a range of its bytes. It never changes."""
    return _file(blobs, sha256, range_)


@downloads.head("/{sha256}", dependencies=[Depends(blob_reader)], include_in_schema=False)
def head_blob(
    sha256: Digest,
    blobs: BlobsPart,
    range_: Annotated[str | None, Header(alias="range")] = None,
) -> FileResponse:
    """Tell size and ETag of a blob."""
    return _file(blobs, sha256, range_)


def _file(blobs: BlobStore, sha256: str, range_: str | None) -> FileResponse:
    path = blobs.find(sha256)
    stat = path.stat()
    if range_ is not None:
        _check_range(range_, stat.st_size)
    headers = {"etag": f'"{sha256}"', "cache-control": "public, max-age=31536000, immutable"}
    return FileResponse(path, headers=headers, media_type=_BYTES, stat_result=stat)


def _check_range(text: str, size: int) -> None:
    """Refuse in our words what FileResponse would refuse in plain text.

    Raises:
        HTTPException: 416.
    """
    match = _RANGE.fullmatch(text)
    first, last = (match[1], match[2]) if match else ("", "")
    begin = int(first) if first else size - int(last or 0)
    if (
        match is None
        or match[3]
        or not 0 <= max(begin, 0) < size
        or (first and last and int(last) < begin)
    ):
        raise HTTPException(
            416,
            f"expected one range of bytes within 0-{size - 1}, found {text[:100]!r}",
            headers={"content-range": f"bytes */{size}"},
        )
