"""The shapes of rollouts in the API; see `schema`."""

from __future__ import annotations

from typing import Final

from pydantic import AwareDatetime, Field
from sprat_proto.assignment import AS_DEVICE_DECIDES
from sprat_proto.policy import DEFAULT_PROMPT, Aim
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState

from sprat_controller.api.schema import Accepted, Answered, Json, Short
from sprat_controller.api.strategy_schema import Strategy
from sprat_controller.fleet.filters.tokens import MAX_LENGTH as MAX_FILTER
from sprat_controller.rollout.approval_override import MAX_TEXT, MIN_WORDS, Verdict
from sprat_controller.rollout.plan import Action
from sprat_controller.rollout.requests import DEFAULT_CONTEXT
from sprat_controller.rollout.strategy import MAX_GROUPS

MAX_IN_PROGRESS: Final = 1_000_000_000
MAX_ENVELOPE: Final = 16 << 10
MAX_RATE: Final = 1_000_000_000  # tokens a second
MAX_LOSS: Final = 1_000_000_000  # percent
MAX_REVISION: Final = (1 << 31) - 1
MAX_BANDWIDTH: Final = 1 << 50  # bytes a second


class Policy(Accepted):
    """Which variant is best, and what any must keep to; 0, null and empty ask nothing."""

    aim: Aim = Aim.QUALITY_FIRST
    min_decode_tps: float = Field(
        default=0,
        ge=0,
        le=MAX_RATE,
        description="Tokens a second that one request alone gets at least",
    )
    max_ttft_ms: int = Field(
        default=0, description="Milliseconds to the first token of an answer, at most"
    )
    prompt_tokens: int = Field(
        default=DEFAULT_PROMPT, description="Of the prompt for which `max_ttft_ms` counts"
    )
    max_memory_bytes: int = Field(
        default=0, description="Weights, context, compute and worker together"
    )
    min_context: int = Field(
        default=0, description="Tokens that the model is made for and runs with"
    )
    max_quality_loss: float | None = Field(
        default=None,
        ge=0,
        le=MAX_LOSS,
        description="Percent by which quantization may raise the perplexity; 0 allows none",
    )
    runtimes: list[Short] = Field(default_factory=list[Short], description="Any of these")
    licences: list[Short] = Field(
        default_factory=list[Short], description="Any of these, by their SPDX names"
    )


class PlanBody(Accepted):
    """Which release, under which alias, to whom; labels, devices and filter all empty: to all."""

    model: Short
    release: Short
    alias: Short
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    devices: list[Short] = Field(default_factory=list[Short])
    filter: str = Field(
        default="", max_length=MAX_FILTER, description="Only devices that match it; empty: any"
    )
    context: int = Field(default=DEFAULT_CONTEXT, description="Tokens")
    slots: int = Field(
        default=0, description="Requests answered at once; 0: as many as each device decides"
    )
    kv_type: Short = Field(
        default=AS_DEVICE_DECIDES.kv_type, description="Of keys and values: f16 or q8_0"
    )
    pinned: bool = Field(default=False, description="Never evicted for another model")
    policy: Policy | None = Field(default=None, description="null: what the release itself asks")


class PreviewBody(PlanBody):
    """A rollout to look at."""

    bandwidth: int = Field(
        default=0,
        ge=0,
        le=MAX_BANDWIDTH,
        description="Bytes a second that one device gets; 0: not known",
    )
    strategy: Strategy | None = Field(default=None, description="null: all at once")


class RolloutBody(PlanBody):
    """A rollout to create."""

    name: Short = ""
    start_at: AwareDatetime | None = None
    max_in_progress: int = Field(
        default=0, ge=0, le=MAX_IN_PROGRESS, description="0: as the strategy says"
    )
    execution_timeout_s: int | None = Field(default=None, description="null: as the strategy says")
    strategy: Strategy | None = Field(default=None, description="null: all at once")


class PlanLine(Answered):
    """What would happen on one device, and why."""

    device_id: str
    simulated: bool
    hardware_class: str | None
    action: Action
    variant: str | None
    digest: str | None
    current: str | None
    reason: Json | None
    fetch_bytes: int | None = Field(
        description="Of the variant's files those that the device does not hold already; null:"
        " nothing is to be done there"
    )
    expected_s: int | None = Field(
        description="Seconds from the device's start: fetching with the bandwidth that was given,"
        " and the soak; null: not known"
    )
    expected_end_s: int | None = Field(
        description="Seconds from the rollout's start, by its groups and pace, if all goes well;"
        " null: not known, or it waits for a person"
    )
    verdicts: list[Json]


class Plan(Answered):
    """What a rollout would do."""

    devices: list[PlanLine]


class SavedPlan(Plan):
    """A plan that was saved: carried out as it is, or refused."""

    id: str
    expires_at: AwareDatetime


class KeptPlan(Answered):
    """A plan that was saved: what, to whom, how it is to proceed, and how long it is kept."""

    id: str
    model: str
    release: str
    alias: str
    target: Json
    context: int
    strategy: Json = Field(description="How it is to proceed; what is left out is as by default")
    made_at: AwareDatetime
    made_by: str
    expires_at: AwareDatetime


class KeptLine(Answered):
    """What a saved plan says of one device; it is stale once any of this is different."""

    device_id: str
    hardware_class: str | None
    current: str | None = Field(description="model@release+variant that it ran")
    action: Action
    variant: str | None
    digest: str | None
    code: str | None = Field(description="Why it gets nothing")


class KeptPlanWithLines(KeptPlan):
    """A saved plan with all that it rests on."""

    devices: list[KeptLine]


class KeptPlanPage(Answered):
    """The newest saved plans, newest first."""

    items: list[KeptPlan]
    next: None = None


class PlannedBody(Accepted):
    """What a rollout by a saved plan says beside it."""

    name: Short = ""
    start_at: AwareDatetime | None = None


class Group(Answered):
    """A slice of a rollout, and how many of its executions are in each state."""

    number: int
    name: str
    state: GroupState
    devices: int = Field(description="When the rollout was created")
    started_at: AwareDatetime | None
    soak_until: AwareDatetime | None
    finished_at: AwareDatetime | None
    verdict: Json | None = Field(description="Of its gate, and why")
    promoted_by: str | None
    promoted_at: AwareDatetime | None
    counts: dict[ExecutionState, int]


class OverrideReview(Answered):
    """What somebody else said of an override afterwards."""

    by: str
    verdict: Verdict
    note: str
    at: AwareDatetime


class ApprovalOverride(Answered):
    """Who let a rollout go without the approvals that it lacked, and why."""

    by: str
    reason: str
    at: AwareDatetime
    review: OverrideReview | None = Field(description="null: it is pending")
    said: str = Field(description="All of it in one sentence")


class Rollout(Answered):
    """A rollout, and how many executions are in each state."""

    id: str
    name: str
    model: str
    release: str
    alias: str
    target: Json
    context: int
    slots: int
    kv_type: str
    pinned: bool
    policy: Policy | None
    state: RolloutState
    start_at: AwareDatetime | None
    max_in_progress: int
    execution_timeout_s: int
    created_at: AwareDatetime
    created_by: str
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    counts: dict[ExecutionState, int]
    strategy: Json = Field(description="How it proceeds; what is left out is as by default")
    groups: list[Group]
    revision: int = Field(description="One more with each change: name the one you looked at")
    abort: Json | None = Field(
        description="The abort criterion that was met, and how it stood; who stopped it; or what"
        " held it back when its time came"
    )
    approval_override: ApprovalOverride | None = Field(
        description="null: nobody overrode its approvals, or it is also for devices out of scope"
    )


class LookedAt(Accepted):
    """Which revision of a rollout somebody looked at."""

    expected_revision: int | None = Field(
        default=None,
        ge=0,
        le=MAX_REVISION,
        description="Refused if it is another one by now; null: whatever it is",
    )


class PromotionBody(LookedAt):
    """Which group is good enough for the next one to start."""

    group: int = Field(ge=0, lt=MAX_GROUPS, description="Its number, from 0")


class EditBody(LookedAt):
    """What is to be different of what has not started; what is left out stays."""

    name: Short | None = None
    max_in_progress: int | None = Field(default=None, ge=0, le=MAX_IN_PROGRESS)
    execution_timeout_s: int | None = None
    start_at: AwareDatetime | None = None
    strategy: Strategy | None = Field(
        default=None, description="Each word that it says takes the place of the former as a whole"
    )


class ApprovalBody(LookedAt):
    """An approval of a rollout's frozen specification."""

    spec_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the specification")
    envelope: str = Field(
        default="", max_length=MAX_ENVELOPE, description="DSSE over it, with one signature"
    )


class DenialBody(LookedAt):
    """Why a rollout is not to be."""

    reason: Short = ""


class OverrideBody(LookedAt):
    """Why approvals cannot be waited for."""

    reason: str = Field(
        max_length=MAX_TEXT, description=f"At least {MIN_WORDS} words; the audit log has them"
    )


class ReviewBody(LookedAt):
    """What is to be thought of an override."""

    verdict: Verdict
    note: str = Field(default="", max_length=MAX_TEXT)


class Approval(Answered):
    """What is to be approved of a rollout, who has, and what is missing."""

    rollout_id: str
    state: RolloutState
    spec: str | None = Field(description="Canonical JSON, as it is signed")
    strategy: str = Field(
        description="How it proceeds, as canonical JSON whose SHA-256 is `strategy_sha256` of the"
        " specification; there is none where that says all in the clear"
    )
    approved_by: list[str]
    missing: list[str]


class RolloutPage(Answered):
    """The newest rollouts, newest first."""

    items: list[Rollout]
    next: None = None


class Execution(Answered):
    """One device's run of a rollout."""

    id: str
    rollout_id: str
    device_id: str
    simulated: bool
    position: int
    state: ExecutionState
    step: str | None
    attempt: int = Field(
        description="1, and one more for each variant that the device itself refused; from the"
        " second on the device knows it as `<id>.<attempt>`"
    )
    variant: str | None
    digest: str | None
    reason: Json | None
    verdicts: list[Json] = Field(description="Those with `by_device` are the device's own")
    probe: Json | None = Field(
        description="What the device's probe measured, before it activated the variant or gave it"
        " up; 0: it did not measure that. `failed` are the first checks that were not passed"
    )
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    deadline_at: AwareDatetime | None
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None


class ExecutionPage(Answered):
    """All executions of a rollout, in the order of starting."""

    items: list[Execution]
    next: None = None


class Why(Answered):
    """Why a device stands where it stands under one alias, and what happens next."""

    alias: str = Field(description="Empty: the device has none")
    code: ReasonCode
    message: str
    then: str = Field(description="What happens next")
    at: AwareDatetime | None = Field(description="When that is; null: it waits for no time")
    do: str = Field(description="What a person can do")
    rollout_id: str | None


class WhyPage(Answered):
    """One answer for each alias, at least one."""

    items: list[Why]
    next: None = None
