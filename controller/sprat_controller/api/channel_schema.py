"""The shapes of channels in the API; see `schema`."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from sprat_controller.api.schema import Answered


class Entry(Answered):
    """A release in a channel."""

    release: str
    counter: int
    put_at: AwareDatetime
    put_by: str
    retired_at: AwareDatetime | None


class Channel(Answered):
    """A channel of a model."""

    name: str
    newest: str | None = Field(description="What it stands for; null: all in it were retired")
    releases: list[Entry] = Field(description="All in it, highest counter first")


class ChannelPage(Answered):
    """All channels of a model, by name."""

    items: list[Channel]
    next: None = None
