"""Metadata of both repositories, for the people who sign it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response, status
from sprat_proto.audit_events import Tag
from sprat_proto.trust import MAX_TARGETS_BYTES, Repository

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import schema
from sprat_controller.api.answers import contents
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import BlobsPart, DatabasePart, Now, SignerPart
from sprat_controller.audit import log
from sprat_controller.errors import RefusedError
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.store.session import Database
from sprat_controller.trust import repository as metadata
from sprat_controller.trust.repository import MetadataRefusedError, Upload

router = APIRouter(prefix="/trust", tags=["trust"])
Reader = Annotated[Actor, Depends(require(Permission.READ_MODELS))]
Manager = Annotated[Actor, Depends(require(Permission.MANAGE_TRUST))]


@router.get("/{repository}")
def list_metadata(repository: Repository, _: Reader, database: DatabasePart) -> schema.MetadataPage:
    """All published files of a repository."""
    with database.reading() as session:
        found = metadata.names(session, repository)
    return schema.MetadataPage(
        items=[schema.MetadataFile(name=name, size=size) for name, size in found]
    )


@router.get(
    "/{repository}/{name}",
    response_class=Response,
    responses=contents("application/json") | error_answers(404),
)
def get_metadata(repository: Repository, name: str, _: Reader, database: DatabasePart) -> Response:
    """One published file of a repository."""
    with database.reading() as session:
        data = metadata.file(session, repository, name)
    return Response(data, media_type="application/json")


@router.post(
    "/{repository}",
    status_code=status.HTTP_201_CREATED,
    responses=error_answers(400, 404, 413, 422, 503),
)
def publish_metadata(
    repository: Repository,
    body: schema.MetadataRequest,
    actor: Manager,
    *,
    database: DatabasePart,
    blobs: BlobsPart,
    signer: SignerPart,
    now: Now,
) -> schema.MetadataPage:
    """Publish what people signed: all of it or nothing, and only what the client takes."""
    try:
        files = {name: _uploaded(blobs, name, sha256) for name, sha256 in body.files.items()}
        upload = Upload(repository, files, actor.audit_name, now)
        with database.transaction() as session:
            metadata.publish(session, signer, blobs, upload)
            found = metadata.names(session, repository)
    except RefusedError as refusal:
        _write_down(database, f"trust/{repository}", actor, refusal, now)
        raise
    return schema.MetadataPage(
        items=[schema.MetadataFile(name=name, size=size) for name, size in found]
    )


def _uploaded(blobs: BlobStore, name: str, sha256: str) -> bytes:
    path = blobs.find(sha256)
    size = path.stat().st_size
    if size > MAX_TARGETS_BYTES:
        raise MetadataRefusedError(
            "sizes", f"{name[:120]} has {size} bytes, a device reads at most {MAX_TARGETS_BYTES}"
        )
    return path.read_bytes()


def _write_down(
    database: Database, subject: str, actor: Actor, refusal: RefusedError, now: Now
) -> None:
    with database.transaction() as session:
        log.append(
            session,
            Tag.METADATA_REFUSED,
            at=now,
            actor=actor.audit_name,
            subject=subject,
            outcome="denied",
            reason=refusal.code,
            detail={"message": refusal.message, **refusal.details},
        )
