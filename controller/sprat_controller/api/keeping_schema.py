"""The shapes of how long audit records are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from sprat_controller.api.schema import Accepted, Answered
from sprat_controller.audit.expiries import FLOOR_DAYS, MAX_DAYS

Reason = Annotated[str, StringConstraints(max_length=1000, strip_whitespace=True)]


class Retention(Answered):
    """How long records are kept."""

    tag: str = Field(description="Empty: of all tags that have no policy of their own")
    days: int | None = Field(description="None: for ever")
    reason: str = Field(description=f"Why it is shorter than {FLOOR_DAYS} days, if it is")
    set_at: datetime
    set_by: str


class RetentionPage(Answered):
    """Every policy; what none of them is about is kept for ever."""

    items: list[Retention]
    floor_days: int = Field(description="What is shorter must be forced, with a reason")


class RetentionRequest(Accepted):
    """How long records are to be kept from now on."""

    tag: str = Field(default="", max_length=200, description="Empty: all that have none")
    days: int | None = Field(ge=1, le=MAX_DAYS, description="None: for ever")
    force_reason: Reason = Field(
        default="", description=f"Why it may be shorter than {FLOOR_DAYS} days; it is recorded"
    )


class Hold(Answered):
    """What does not expire while it is not released."""

    id: str
    device_id: str | None
    rollout_id: str | None
    since: datetime | None
    reason: str
    added_at: datetime
    added_by: str
    released_at: datetime | None
    released_by: str | None


class HoldPage(Answered):
    """Every hold, those that were released, too."""

    items: list[Hold]


class HoldRequest(Accepted):
    """What is to be kept: records that meet all that is said."""

    device_id: str | None = Field(default=None, min_length=1, max_length=100)
    rollout_id: str | None = Field(default=None, min_length=1, max_length=100)
    since: AwareDatetime | None = None
    reason: Reason = Field(min_length=1)


class ReleaseRequest(Accepted):
    """Why a hold is not needed any more."""

    reason: Reason = Field(min_length=1)
