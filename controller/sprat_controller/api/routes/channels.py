"""Channels of a model's releases, such as `stable`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlmodel import Session

from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.api import channel_schema as schema
from sprat_controller.api.auth import require
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import DatabasePart, Now
from sprat_controller.registry import channels

router = APIRouter(prefix="/models", tags=["channels"])
Reader = Annotated[Actor, Depends(require(Permission.READ_MODELS))]
Changer = Annotated[Actor, Depends(require(Permission.CHANGE_CHANNELS))]
_RELEASE = "/{model}/channels/{channel}/releases/{release}"


@router.get("/{model}/channels", responses=error_answers(404))
def list_channels(model: str, _: Reader, database: DatabasePart) -> schema.ChannelPage:
    """Which release each channel stands for, and which others are in it."""
    with database.reading() as session:
        return _page(session, model)


@router.put(_RELEASE, responses=error_answers(400, 404, 409))
def put_in_channel(
    model: str, channel: str, release: str, actor: Changer, *, database: DatabasePart, now: Now
) -> schema.ChannelPage:
    """Put a release in a channel, which stands for the newest in it."""
    by = channels.By(actor.audit_name, now)
    with database.transaction() as session:
        channels.put(session, model, channel, release, by)
        session.flush()
        return _page(session, model)


@router.delete(_RELEASE, status_code=204, responses=error_answers(404))
def take_out_of_channel(
    model: str, channel: str, release: str, actor: Changer, *, database: DatabasePart, now: Now
) -> None:
    """Take a release out of a channel; what was rolled out stays."""
    by = channels.By(actor.audit_name, now)
    with database.transaction() as session:
        channels.take_out(session, model, channel, release, by)


def _page(session: Session, model: str) -> schema.ChannelPage:
    found = channels.of_model(session, model)
    return schema.ChannelPage.model_validate({"items": [asdict(one) for one in found]})
