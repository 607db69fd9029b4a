"""What needs no token: health, the CA's certificate, enrolling a device and renewing it."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request, Response
from sprat_proto.trust import DIRECTOR, IMAGE
from sqlalchemy import text

from sprat_controller.api import schema
from sprat_controller.api.answers import contents
from sprat_controller.api.auth import source_of
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AllParts, AuthorityPart, DatabasePart
from sprat_controller.errors import RequestError
from sprat_controller.fleet import enrolment, renewal, roots

router = APIRouter(tags=["open"])
_PEM: Final = "application/x-pem-file"
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


@router.get("/enrol/ca.pem", response_class=Response, responses=contents(_PEM))
async def ca(authority: AuthorityPart) -> Response:
    """The CA's certificate; a device compares its SHA-256 with the one in its token."""
    return Response(authority.certificate_pem, media_type=_PEM)


@router.post("/enrol", responses=error_answers(400, 403, 409, 413, 422, 429, 503))
def enrol(
    body: schema.EnrolRequest,
    request: Request,
    parts: AllParts,
    host: Annotated[str, Header(max_length=300)] = "",
) -> schema.EnrolAnswer:
    """Redeem a claim token; a lost answer may be asked for again with the same keys."""
    parts.gates.enrolment.enter(source_of(request), parts.clock())
    reached_at = _host_name(host)
    given = enrolment.enrol(
        parts.database,
        parts.signer,
        parts.denials,
        enrolment.Request(
            token=body.token,
            csr_pem=body.csr,
            identity_key_pem=body.identity_key,
            audit_key_pem=body.audit_key,
            audit_seed=_bytes("bad_audit_key", body.audit_seed),
            signature=_bytes("bad_signature", body.signature),
            hardware_id=body.hardware_id,
        ),
        parts.clock(),
    )
    with parts.database.reading() as session:
        image, director = (roots.newest_root(session, one) for one in (IMAGE, DIRECTOR))
    return schema.EnrolAnswer(
        device_id=given.device_id,
        group=given.group,
        certificate=given.chain_pem,
        ca=parts.authority.certificate_pem.decode(),
        image_root=image.decode() if image else None,
        director_root=director.decode() if director else None,
        grpc=parts.addresses.grpc(reached_at),
        mqtt=parts.addresses.mqtt(reached_at),
    )


@router.post("/enrol/renew", responses=error_answers(400, 403, 413, 422, 429, 503))
def renew(body: schema.RenewRequest, request: Request, parts: AllParts) -> schema.RenewAnswer:
    """Certify a device's next TLS key, by its identity key: also after the last certificate ended.

    A lost answer may be asked for again with the same key.
    """
    parts.gates.renewal.enter(source_of(request), parts.clock())
    given = renewal.renew(
        parts.database,
        parts.signer,
        parts.denials,
        renewal.Request(
            body.device_id, body.serial, body.csr, _bytes("bad_signature", body.signature)
        ),
        parts.clock(),
    )
    return schema.RenewAnswer(
        certificate=given.chain_pem, ca=parts.authority.certificate_pem.decode()
    )


def _bytes(code: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RequestError(code, f"expected base64: {error}") from error


def _host_name(header: str) -> str:
    """Return the name by which the device reached us: the one that works from where it is."""
    match = _HOST.fullmatch(header)
    if match is None:
        raise RequestError("bad_host", f"expected a Host header, found {header[:100]!r}")
    return match[1]
