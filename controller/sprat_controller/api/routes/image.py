"""The image repository as devices read it: `<version>.<role>.json` and `timestamp.json`."""

from __future__ import annotations

import gzip
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Response
from sprat_proto.trust import IMAGE

from sprat_controller.api.answers import contents
from sprat_controller.api.auth import blob_reader
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import DatabasePart
from sprat_controller.trust import repository
from sprat_controller.trust.folder import TIMESTAMP

router = APIRouter(prefix="/image", tags=["image"])
_FOR_EVER: Final = "public, max-age=31536000, immutable"
# What is smaller fits into one packet anyway.
_GZIP_FROM: Final = 1000


@router.get(
    "/{name}",
    dependencies=[Depends(blob_reader)],
    response_class=Response,
    responses=contents("application/json") | error_answers(401, 403, 404, 422),
)
def get_image_metadata(
    name: str, database: DatabasePart, accept_encoding: Annotated[str, Header()] = ""
) -> Response:
    """One file of the image repository; a version never changes."""
    with database.reading() as session:
        data = repository.file(session, IMAGE, name)
    headers = {
        "cache-control": "no-cache" if name == TIMESTAMP else _FOR_EVER,
        "vary": "accept-encoding",
    }
    if len(data) >= _GZIP_FROM and "gzip" in accept_encoding:
        headers["content-encoding"] = "gzip"
        data = gzip.compress(data, compresslevel=6, mtime=0)
    return Response(data, headers=headers, media_type="application/json")
