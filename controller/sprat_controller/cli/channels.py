"""Channels: names such as `stable` for the newest release of a model that was put there."""

from __future__ import annotations

from typing import Annotated

import typer

from sprat_controller.cli import words
from sprat_controller.cli.client import Json
from sprat_controller.cli.output import Row
from sprat_controller.cli.verbs import Session, verb

channels = typer.Typer(help="Channels of a model's releases.", rich_markup_mode=None)

Release = Annotated[str, typer.Argument(metavar="MODEL@RELEASE")]
Channel = Annotated[str, typer.Argument(metavar="CHANNEL", help="A name such as stable.")]
COLUMNS = ("channel", "newest", "release", "counter", "put_at", "put_by", "retired_at")


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(channels, name="channels")


@verb(channels, "list", example="sprat channels list qwen3-0.6b")
def list_channels(session: Session, model: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """List the channels of a model, what they stand for and what is in them."""
    path = f"models/{words.name(model, 'a model name')}/channels"
    _show(session, session.api.get(path))


@verb(channels, "put", example="sprat channels put qwen3-0.6b@1.3.0 stable")
def put(session: Session, release: Release, channel: Channel) -> None:
    """Put a release in a channel; the channel stands for its newest one."""
    _show(session, session.api.put(_path(release, channel)))


@verb(channels, "remove", example="sprat channels remove qwen3-0.6b@1.3.0 stable")
def remove(session: Session, release: Release, channel: Channel) -> None:
    """Take a release out of a channel; devices that run it go on."""
    session.api.delete(_path(release, channel))
    said = {"release": release, "channel": channel, "removed": True}
    session.output.one(said, said)


def _path(release: str, channel: str) -> str:
    model, version = words.model_release(release)
    name = words.name(channel, "the name of a channel")
    return f"models/{model}/channels/{name}/releases/{version}"


def _show(session: Session, found: Json) -> None:
    listed: list[Json] = found.get("items") or []
    rows = [row for channel in listed for row in _rows(channel)]
    session.output.rows(COLUMNS, rows, found)


def _rows(channel: Json) -> list[Row]:
    entries: list[Json] = channel.get("releases") or []
    return [
        [
            channel.get("name"),
            "yes" if entry.get("release") == channel.get("newest") else "",
            *(entry.get(name) for name in COLUMNS[2:]),
        ]
        for entry in entries
    ]
