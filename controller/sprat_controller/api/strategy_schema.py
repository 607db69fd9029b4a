"""The shape of a strategy in the API: `rollout.strategy` word for word, as a document shows it.

Only ranges and defaults are here; `rollout.strategy_said` turns it into the value, and checks it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from sprat_controller.api.schema import Accepted
from sprat_controller.rollout import strategy as words
from sprat_controller.rollout.strategy import AbortAction, Extent, FailureType, Membership

_YEAR_S = 366 * 86_400
_WEEK_S = 7 * 86_400
Count = Annotated[int, Field(ge=0, le=words.MAX_DEVICES)]
Percent = Annotated[int, Field(ge=0, le=100)]
Permille = Annotated[int, Field(ge=0, le=100_000)]
Seconds = Annotated[int, Field(ge=0, le=_YEAR_S)]
Filter = Annotated[str, StringConstraints(max_length=4096)]
Label = Annotated[str, StringConstraints(max_length=64)]


class Gate(Accepted):
    """What each hardware class of a group is held to; thousandths; null asks nothing."""

    min_decode: Permille | None = Field(default=900, description="Of the baseline's rate")
    max_ttft_p95: Permille | None = Field(default=1200, description="Of the baseline's")
    max_memory: Permille | None = Field(default=1000, description="Of what was declared")
    max_more_errors: Permille | None = Field(
        default=10, description="Requests that fail more than in the baseline"
    )
    max_score_loss: Permille | None = Field(default=20, description="Of the probe's score")
    max_crashes: Count | None = Field(default=0, description="Of workers, in the whole class")
    min_devices: Count = Field(default=5, description="That told something; with fewer it holds")
    min_requests: Count = Field(default=0, description="Answered by the class")


class Group(Accepted):
    """A slice of the devices: so many, or so much of all, or (neither) all that is left."""

    name: Label = ""
    devices: Count = 0
    percent: float = Field(default=0, ge=0, le=100, description="Of all devices of the rollout")
    filter: Filter = Field(default="", description="Only devices that match it")
    success_percent: Percent = Field(
        default=100, description="Must succeed before the next group starts"
    )
    soak_s: Seconds = Field(default=0, description="Seconds under watch after that")
    gate: Gate | None = Field(default=None, description="null: no gate on metrics")
    waits_for_promotion: bool = Field(default=False, description="A person must say so first")


class AbortCriterion(Accepted):
    """Ends or holds what goes wrong: at least so many, and at least this share of what ended."""

    failure: FailureType = FailureType.ALL
    percent: Percent = 20
    min_count: int = Field(
        default=1, ge=1, le=words.MAX_DEVICES, description="So many ended in this way"
    )
    min_ended: int = Field(
        default=1,
        ge=1,
        le=words.MAX_DEVICES,
        description="So many ended in any way; fewer once all have",
    )
    extent: Extent = Field(default=Extent.GROUP, description="Within which all is counted")
    action: AbortAction = AbortAction.PAUSE
    acts_on: Extent = Extent.ROLLOUT


class Pace(Accepted):
    """How fast devices are started; 0: no limit."""

    max_in_progress: Count = 0
    starts_per_minute: Count = 0


class DisruptionBudget(Accepted):
    """How many devices of equal label value may be down at once; one of the two limits."""

    label: str = Field(default="site", min_length=1, max_length=64)
    max_unavailable: Count = 0
    max_unavailable_percent: Percent = 0


class Deadlines(Accepted):
    """Seconds that a device may take; 0: no limit, but for `execution_s`."""

    execution_s: int = Field(default=86_400, ge=1, le=_YEAR_S)
    no_progress_s: Seconds = Field(default=1_800, description="While it downloads")
    install_s: Seconds = 600
    probe_s: Seconds = 300
    offline_grace_s: Seconds = Field(
        default=3_600, description="Then a silent device counts no more, until it returns"
    )


class Retries(Accepted):
    """How often what may pass is tried again on a device, by full jitter."""

    attempts: int = Field(default=3, ge=0, le=10)
    base_s: int = Field(default=30, ge=1, le=_WEEK_S)
    ceiling_s: int = Field(default=3_600, ge=1, le=_WEEK_S)
    penalty_s: Seconds = Field(
        default=86_400, description="In which no rollout starts on a device that used them up"
    )


class WindowSpec(Accepted):
    """A maintenance window."""

    cron: str = Field(min_length=1, max_length=128, description="Five fields: when it opens")
    duration_s: int = Field(ge=60, le=_WEEK_S)
    zone: str = Field(default="UTC", min_length=1, max_length=64, description="IANA name")


class Strategy(Accepted):
    """How a rollout proceeds; what is left out is as by default: all at once."""

    groups: list[Group] = Field(
        default_factory=lambda: [Group()],
        min_length=1,
        max_length=words.MAX_GROUPS,
        description="In order; the last takes all that is left",
    )
    membership: Membership = Membership.SNAPSHOT
    pace: Pace = Field(default_factory=Pace)
    budgets: list[DisruptionBudget] = Field(default_factory=list[DisruptionBudget], max_length=8)
    abort: list[AbortCriterion] = Field(default_factory=list[AbortCriterion], max_length=16)
    deadlines: Deadlines = Field(default_factory=Deadlines)
    retries: Retries = Field(default_factory=lambda: Retries(attempts=0))
    download_window: WindowSpec | None = None
    activate_window: WindowSpec | None = None
    ends_at: int = Field(
        default=0, ge=0, le=1 << 40, description="Unix seconds after which nothing starts; 0: never"
    )
    priority: int = Field(default=0, ge=-1000, le=1000, description="The higher goes first")
    override: str = Field(
        default="",
        max_length=512,
        description="Why windows, budgets and pace do not count; needs `rollouts:override`",
    )


def body_of(strategy: Strategy) -> dict[str, Any]:
    """Return what was sent, as `rollout.strategy_said.asked` reads it."""
    return strategy.model_dump(mode="json", exclude_unset=True)
