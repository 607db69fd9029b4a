"""Channels: names such as `stable` for the newest release of a model that was put there.

A release may be in any number of channels. What a channel stands for is its release with the
highest counter that was not retired, whenever it was put there. A channel exists while something
is in it. It decides nothing that a device believes: devices check the release's own signatures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.manifest import is_model_name
from sqlmodel import Session, col, select

from sprat_controller.audit import log
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.store import queries
from sprat_controller.store.tables import ChannelRelease, Release

_SAME: Final = (col(Release.model) == col(ChannelRelease.model)) & (
    col(Release.release) == col(ChannelRelease.release)
)


@dataclass(frozen=True)
class Entry:
    """A release in a channel."""

    release: str
    counter: int
    put_at: datetime
    put_by: str
    retired_at: datetime | None


@dataclass(frozen=True)
class Channel:
    """A channel of a model.

    Attributes:
        name: Of the channel.
        newest: The release that it stands for; None: all of it were retired.
        releases: All that is in it, highest counter first.
    """

    name: str
    newest: str | None
    releases: tuple[Entry, ...]


@dataclass(frozen=True)
class By:
    """Who changes a channel, and when."""

    actor: str
    now: datetime


def put(session: Session, model: str, channel: str, release: str, by: By) -> None:
    """Put a release in a channel; nothing happens if it is there.

    Raises:
        RequestError: That is no name of a channel.
        NotFoundError: No such model or release.
        ConflictError: The release was retired.
    """
    check_name(channel)
    row, _ = queries.release(session, model, release)
    if row.retired_at is not None:
        raise ConflictError(
            "release_retired",
            f"{model}@{release} was retired by its publisher: put a release that is not in"
            f" {channel}",
        )
    if session.get(ChannelRelease, (model, channel, release)) is not None:
        return
    session.add(
        ChannelRelease(
            model=model, channel=channel, release=release, put_at=by.now, put_by=by.actor
        )
    )
    _record(session, Tag.CHANNEL_PUT, (model, channel, release), by)


def take_out(session: Session, model: str, channel: str, release: str, by: By) -> None:
    """Take a release out of a channel; what was rolled out stays.

    Raises:
        NotFoundError: It is not in it.
    """
    row = session.get(ChannelRelease, (model, channel, release))
    if row is None:
        raise NotFoundError(
            "not_in_channel", f"{model}@{release} is not in the channel {channel!r} of {model}"
        )
    session.delete(row)
    _record(session, Tag.CHANNEL_TAKEN_OUT, (model, channel, release), by)


def newest(session: Session, model: str, channel: str) -> Release | None:
    """Return the release that a channel stands for; None: there is none."""
    return session.exec(
        select(Release)
        .join(ChannelRelease, _SAME)
        .where(
            col(ChannelRelease.model) == model,
            col(ChannelRelease.channel) == channel,
            col(Release.retired_at).is_(None),
        )
        .order_by(col(Release.counter).desc())
        .limit(1)
    ).first()


def of_model(session: Session, model: str) -> tuple[Channel, ...]:
    """Return the channels of a model, by name.

    Raises:
        NotFoundError: No such model.
    """
    queries.releases(session, model)
    rows = session.connection().execute(
        sqlalchemy.select(
            col(ChannelRelease.channel),
            col(ChannelRelease.release),
            col(Release.counter),
            col(ChannelRelease.put_at),
            col(ChannelRelease.put_by),
            col(Release.retired_at),
        )
        .join(Release, _SAME)
        .where(col(ChannelRelease.model) == model)
        .order_by(col(ChannelRelease.channel), col(Release.counter).desc())
    )
    found: dict[str, list[Entry]] = {}
    for channel, release, counter, put_at, put_by, retired_at in rows:
        entry = Entry(release, counter, put_at, put_by, retired_at)
        found.setdefault(channel, []).append(entry)
    return _channels(found)


def check_name(channel: str) -> None:
    """Check that something may be the name of a channel.

    Raises:
        RequestError: It may not.
    """
    if not is_model_name(channel):
        raise RequestError(
            "invalid_channel",
            f"expected the name of a channel of a-z, 0-9 and ._- (at most 64), found {channel!r}",
        )


def _channels(found: Mapping[str, Sequence[Entry]]) -> tuple[Channel, ...]:
    channels: list[Channel] = []
    for name, entries in found.items():
        good = [one.release for one in entries if one.retired_at is None]
        channels.append(Channel(name, good[0] if good else None, tuple(entries)))
    return tuple(channels)


def _record(session: Session, tag: Tag, where: tuple[str, str, str], by: By) -> None:
    model, channel, release = where
    log.append(
        session,
        tag,
        at=by.now,
        actor=by.actor,
        subject=f"channel/{model}/{channel}",
        before=release if tag is Tag.CHANNEL_TAKEN_OUT else None,
        after=release if tag is Tag.CHANNEL_PUT else None,
        detail={"release": release},
    )
