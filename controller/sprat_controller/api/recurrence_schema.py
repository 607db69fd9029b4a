"""The shapes of recurring rollouts in the API; see `schema`."""

from __future__ import annotations

from pydantic import AwareDatetime, Field
from sprat_proto.assignment import AS_DEVICE_DECIDES
from sprat_proto.windows import MAX_CRON, MAX_ZONE

from sprat_controller.api.rollout_schema import LookedAt, Policy
from sprat_controller.api.schema import Accepted, Answered, Json, Short
from sprat_controller.api.strategy_schema import Filter, Strategy
from sprat_controller.rollout.requests import DEFAULT_CONTEXT


class RecurrenceBody(Accepted):
    """Has the newest release of a channel rolled out, at each moment of a rule."""

    model: Short
    channel: Short
    alias: Short
    cron: str = Field(max_length=MAX_CRON, description="Five fields, as windows have them")
    zone: str = Field(default="UTC", max_length=MAX_ZONE, description="IANA name")
    name: Short = ""
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    devices: list[Short] = Field(default_factory=list[Short])
    filter: Filter = ""
    context: int = Field(default=DEFAULT_CONTEXT, description="Tokens")
    slots: int = Field(
        default=0, description="Requests answered at once; 0: as many as each device decides"
    )
    kv_type: Short = Field(
        default=AS_DEVICE_DECIDES.kv_type, description="Of keys and values: f16 or q8_0"
    )
    pinned: bool = Field(default=False, description="Never evicted for another model")
    policy: Policy | None = Field(default=None, description="null: what the release itself asks")
    strategy: Strategy = Field(
        default_factory=Strategy, description="Of each rollout; without ends_at and override"
    )


class RecurrenceEditBody(LookedAt):
    """What is to be different of a recurring rollout; what is left out, or null, stays."""

    channel: Short | None = None
    cron: str | None = Field(default=None, max_length=MAX_CRON)
    zone: str | None = Field(default=None, max_length=MAX_ZONE)
    name: Short | None = None
    labels: dict[str, str] | None = None
    devices: list[Short] | None = None
    filter: Filter | None = None
    context: int | None = None
    slots: int | None = None
    kv_type: Short | None = None
    pinned: bool | None = None
    policy: Policy | None = Field(
        default=None, description="null, if it is said: what the release itself asks"
    )
    strategy: Strategy | None = Field(
        default=None, description="Each word that it says takes the place of the former as a whole"
    )


class Occurrence(Answered):
    """What came of a moment: a rollout, or the reason why there is none."""

    due_at: AwareDatetime
    decided_at: AwareDatetime
    release: str | None
    rollout_id: str | None
    reason: Json | None


class Recurrence(Answered):
    """A recurring rollout."""

    id: str
    name: str
    model: str
    channel: str
    alias: str
    cron: str
    zone: str
    target: Json
    context: int
    slots: int
    kv_type: str
    pinned: bool
    policy: Policy | None
    strategy: Json
    due_at: AwareDatetime | None = Field(description="null while it is paused")
    paused_at: AwareDatetime | None
    created_at: AwareDatetime
    created_by: str
    last: Occurrence | None = Field(description="What came of its last moment")
    revision: int = Field(description="One more with each change: name the one you looked at")


class RecurrencePage(Answered):
    """All recurring rollouts, oldest first."""

    items: list[Recurrence]
    next: None = None


class OccurrencePage(Answered):
    """What came of the newest moments, newest first."""

    items: list[Occurrence]
    next: None = None
