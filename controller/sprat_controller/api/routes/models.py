"""Models and their releases."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sprat_proto import manifest
from sqlmodel import Session

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import schema
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import BlobsPart, DatabasePart, Now, SignerPart
from sprat_controller.registry.publish import Parts, Request, publish, retire
from sprat_controller.store import queries
from sprat_controller.store.tables import Variant

router = APIRouter(prefix="/models", tags=["models"])
Reader = Annotated[Actor, Depends(require(Permission.READ_MODELS))]
Pusher = Annotated[Actor, Depends(require(Permission.PUBLISH))]


@router.get("")
def list_models(_: Reader, database: DatabasePart) -> schema.ModelPage:
    """All models and their releases."""
    with database.reading() as session:
        found = queries.models(session)
    return schema.ModelPage(
        items=[
            schema.Model(
                model=model, releases=[schema.Release.model_validate(row) for row in releases]
            )
            for model, releases in found.items()
        ]
    )


@router.get("/{model}", responses=error_answers(404))
def show_model(model: str, _: Reader, database: DatabasePart) -> schema.Model:
    """A model's releases, newest first."""
    with database.reading() as session:
        rows = queries.releases(session, model)
    return schema.Model(model=model, releases=[schema.Release.model_validate(row) for row in rows])


@router.get("/{model}/releases/{release}", responses=error_answers(404))
def show_release(
    model: str, release: str, _: Reader, database: DatabasePart
) -> schema.ReleaseDetail:
    """A release and its variants with their manifests."""
    with database.reading() as session:
        return _release(session, model, release)


@router.post("/{model}/releases", status_code=201, responses=error_answers(400, 409, 413, 422, 503))
def publish_release(
    model: str,
    body: schema.ReleaseRequest,
    actor: Pusher,
    response: Response,
    *,
    database: DatabasePart,
    blobs: BlobsPart,
    signer: SignerPart,
    now: Now,
) -> schema.ReleaseDetail:
    """Publish what was uploaded, after named checks: all of it or nothing."""
    request = Request(
        *(model, body.release, body.publisher, body.metadata, actor.audit_name, now),
        unproven=body.unproven,
    )
    is_new = publish(Parts(database, blobs, signer), request)
    response.status_code = 201 if is_new else 200
    with database.reading() as session:
        return _release(session, model, body.release)


@router.post("/{model}/releases/{release}/retire", responses=error_answers(400, 404, 413, 422, 503))
def retire_release(
    model: str,
    release: str,
    body: schema.RetireRequest,
    actor: Pusher,
    *,
    database: DatabasePart,
    blobs: BlobsPart,
    signer: SignerPart,
    now: Now,
) -> schema.ReleaseDetail:
    """Have no device activate a release anew; those that run it go on."""
    request = Request(model, release, body.publisher, body.metadata, actor.audit_name, now)
    retire(Parts(database, blobs, signer), request)
    with database.reading() as session:
        return _release(session, model, release)


def _release(session: Session, model: str, release: str) -> schema.ReleaseDetail:
    row, variants = queries.release(session, model, release)
    return schema.ReleaseDetail(
        model=row.model,
        release=row.release,
        counter=row.counter,
        created_at=row.created_at,
        pushed_by=row.pushed_by,
        retired_at=row.retired_at,
        variants=[_variant(variant) for variant in variants],
    )


def _variant(row: Variant) -> schema.Variant:
    return schema.Variant(
        variant=row.variant,
        digest=row.digest,
        publisher=row.publisher,
        manifest=manifest.to_builtins(manifest.decode(row.manifest)),
    )
