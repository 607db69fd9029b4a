"""What needs no token: health, the CA's certificate, and enrolling a device."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response
from sqlalchemy import text

from sprat_controller.api import schema
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AllParts, AuthorityPart, DatabasePart
from sprat_controller.errors import RequestError
from sprat_controller.fleet import enrolment
from sprat_controller.registry import publishers

router = APIRouter(tags=["open"])
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


@router.get("/livez")
async def livez() -> schema.Health:
    """The process answers."""
    return schema.Health(status="ok")


@router.get("/readyz")
def readyz(database: DatabasePart) -> schema.Health:
    """The process answers, and so does its database."""
    with database.reading() as session:
        session.connection().execute(text("SELECT 1"))
    return schema.Health(status="ok")


@router.get("/enrol/ca.pem", response_class=Response)
async def ca(authority: AuthorityPart) -> Response:
    """The CA's certificate; a device compares its SHA-256 with the one in its token."""
    return Response(authority.certificate_pem, media_type="application/x-pem-file")


@router.post("/enrol", responses=error_answers(400, 403, 409, 413, 422))
def enrol(
    body: schema.EnrolRequest, parts: AllParts, host: Annotated[str, Header(max_length=300)] = ""
) -> schema.EnrolAnswer:
    """Redeem an enrolment token; a lost answer may be asked for again with the same key."""
    reached_at = _host_name(host)
    enrolled = enrolment.enrol(
        parts.database,
        parts.authority,
        parts.denials,
        token=body.token,
        csr_pem=body.csr.encode(),
        now=parts.clock(),
    )
    with parts.database.reading() as session:
        keys = publishers.trusted(session)
    return schema.EnrolAnswer(
        device_id=enrolled.device_id,
        certificate=enrolled.certificate_pem,
        ca=parts.authority.certificate_pem.decode(),
        assignment_key=schema.PublicKey.model_validate(parts.assignment_key),
        publishers=[schema.PublicKey.model_validate(key) for key in keys],
        grpc=parts.addresses.grpc(reached_at),
        mqtt=parts.addresses.mqtt(reached_at),
    )


def _host_name(header: str) -> str:
    """Return the name by which the device reached us: the one that works from where it is."""
    match = _HOST.fullmatch(header)
    if match is None:
        raise RequestError("bad_host", f"expected a Host header, found {header[:100]!r}")
    return match[1]
