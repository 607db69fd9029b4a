"""What bundles are made of; `sprat bundle export` puts the file together."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import ExporterPart
from sprat_controller.api.schema import Accepted, Answered, Short

router = APIRouter(prefix="/bundles", tags=["bundles"])
Changer = Annotated[Actor, Depends(require(Permission.ROLL_OUT))]


class BundleBody(Accepted):
    """For which devices; or for the group that a statement names."""

    devices: list[Short] = Field(default_factory=list[Short])
    statement: str = Field(default="", max_length=1 << 20, description="DSSE, signed offline")


class Member(Answered):
    """A small file of a bundle."""

    name: str
    data: str = Field(description="base64")


class BlobOfBundle(Answered):
    """A blob that belongs to it, to be fetched by its hash."""

    sha256: str
    size: int


class Bundle(Answered):
    """All that belongs to a bundle, in its order."""

    members: list[Member]
    blobs: list[BlobOfBundle]


@router.post("", responses=error_answers(400, 404, 409, 413))
def collect(body: BundleBody, actor: Changer, exporter: ExporterPart) -> Bundle:
    """Return what a bundle is made of; plans of named devices are signed anew for it."""
    scope = actor.scope(Permission.ROLL_OUT)
    if body.statement:
        contents = exporter.for_group(body.statement, scope, actor=actor.audit_name)
    else:
        contents = exporter.for_devices(body.devices, scope, actor=actor.audit_name)
    return Bundle(
        members=[
            Member(name=name, data=base64.b64encode(data).decode()) for name, data in contents.small
        ],
        blobs=[BlobOfBundle(sha256=sha256, size=size) for sha256, size in contents.blobs],
    )
