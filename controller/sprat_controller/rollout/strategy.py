"""How a rollout proceeds: groups, pace, gates, abort criteria, deadlines, retries, windows. Pure.

A strategy is asked for as a whole, frozen with the rollout and stored as canonical JSON. What it
says about time on the device (the windows) also travels in the assignment.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

MAX_GROUPS: Final = 100
MAX_DEVICES: Final = 10_000_000
_WEEK_S: Final = 7 * 86_400
_YEAR_S: Final = 366 * 86_400

_Count = Annotated[int, Meta(ge=0, le=MAX_DEVICES)]
_Percent = Annotated[int, Meta(ge=0, le=100)]
_Permille = Annotated[int, Meta(ge=0, le=100_000)]
_Seconds = Annotated[int, Meta(ge=0, le=_YEAR_S)]
_Filter = Annotated[str, Meta(max_length=4096)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Label = Annotated[str, Meta(max_length=64)]
_Text = Annotated[str, Meta(max_length=512)]


class Membership(StrEnum):
    """Whether devices that come to match the target later are in."""

    SNAPSHOT = "SNAPSHOT"
    CONTINUOUS = "CONTINUOUS"


class FailureType(StrEnum):
    """How an execution ends without success; ALL counts the four together."""

    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    ROLLED_BACK = "ROLLED_BACK"
    ALL = "ALL"


class AbortAction(StrEnum):
    """What is done once a criterion is met."""

    PAUSE = "PAUSE"
    CANCEL = "CANCEL"  # what is unfinished ends; what succeeded stays
    ROLLBACK = "ROLLBACK"  # and what succeeded returns to what it ran before


class Extent(StrEnum):
    """What an action is done to."""

    GROUP = "GROUP"
    ROLLOUT = "ROLLOUT"


class Gate(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What each hardware class of a group is held to, against that class's own baseline.

    Thousandths of the baseline, or of requests; None asks nothing. The baseline is what devices of
    the class measured with what they ran before. Below the least samples a judgement holds.
    """

    min_decode: _Permille | None = 900
    max_ttft_p95: _Permille | None = 1200
    # Peak of the memory that was declared for it.
    max_memory: _Permille | None = 1000
    # Thousandths of requests that may fail more than in the baseline.
    max_more_errors: _Permille | None = 10
    # Thousandths of the probe's score that may be lost.
    max_score_loss: _Permille | None = 20
    # Crashes of the worker over the devices of the class, but for those of the one that had most
    # (unless it is the only one).
    max_crashes: _Count | None = 0
    # Devices of the class that told something; fewer if the group has fewer.
    min_devices: _Count = 5
    # Requests that the class answered; 0: the probe's own measurements are enough.
    min_requests: _Count = 0


class Group(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A slice of the devices; the sizes of all are cut in order, each from what is left.

    Exactly one of `devices` and `percent` is above 0, or both are 0: all that is left.
    """

    name: _Label = ""  # empty: its number
    devices: _Count = 0
    # Of all devices of the rollout (not of what is left).
    percent: Annotated[float, Meta(ge=0, le=100)] = 0
    # Only devices that match this; empty: any.
    filter: _Filter = ""
    # Of the executions that count (without excused, canceled and removed): these must succeed
    # before the next group starts.
    success_percent: _Percent = 100
    # Seconds under watch after that.
    soak_s: _Seconds = 0
    # None: no gate on metrics.
    gate: Gate | None = None
    # A person must say so before the next group starts.
    waits_for_promotion: bool = False


class AbortCriterion(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ends or holds what goes wrong: at least so many, and at least this share of what ended.

    What ended is what did so well or badly since a person last resumed the rollout: it succeeded
    (and what was taken back since did), or ended in one of the ways of `FailureType`. What is still
    under way is not in it, nor what counts for nothing: canceled, removed, away for too long, or
    refused by the plan already.
    """

    failure: FailureType = FailureType.ALL
    percent: _Percent = 20
    # So many ended in this way.
    min_count: Annotated[int, Meta(ge=1, le=MAX_DEVICES)] = 1
    # So many ended in any way; fewer once all have. Devices that refuse or fail at once end long
    # before those that succeed: of the first few that end the share says little.
    min_ended: Annotated[int, Meta(ge=1, le=MAX_DEVICES)] = 1
    # All are counted within one group, or over the whole rollout.
    extent: Extent = Extent.GROUP
    action: AbortAction = AbortAction.PAUSE
    # What CANCEL and ROLLBACK act on.
    acts_on: Extent = Extent.ROLLOUT


class Pace(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How fast devices are started; 0: no limit."""

    max_in_progress: _Count = 0
    starts_per_minute: _Count = 0


class DisruptionBudget(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many devices of equal label value may be down at once, over all rollouts.

    Down: an execution of theirs is under way, or ended without success and the device is offline.
    A device without the label counts under the empty value. Exactly one limit is above 0.
    """

    label: _Name = "site"
    max_unavailable: _Count = 0
    max_unavailable_percent: _Percent = 0


class Deadlines(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Seconds that a device may take; 0: no limit, but for `execution_s`."""

    execution_s: Annotated[int, Meta(ge=1, le=_YEAR_S)] = 86_400
    # Without any report of progress while it downloads.
    no_progress_s: _Seconds = 1_800
    install_s: _Seconds = 600
    probe_s: _Seconds = 300
    # Seconds after which a device that is not heard of counts no more, until it returns.
    offline_grace_s: _Seconds = 3_600


class Retries(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often what may pass is tried again on a device, by full jitter; then the penalty box."""

    attempts: Annotated[int, Meta(ge=0, le=10)] = 3
    base_s: Annotated[int, Meta(ge=1, le=_WEEK_S)] = 30
    ceiling_s: Annotated[int, Meta(ge=1, le=_WEEK_S)] = 3_600
    # Seconds in which no rollout starts on a device whose attempts are used up.
    penalty_s: _Seconds = 86_400


class WindowSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """A maintenance window as people say it; `sprat_proto.windows` reads it."""

    cron: Annotated[str, Meta(min_length=1, max_length=128)]  # five fields: when it opens
    duration_s: Annotated[int, Meta(ge=60, le=_WEEK_S)]
    zone: Annotated[str, Meta(min_length=1, max_length=64)] = "UTC"  # IANA name


class Strategy(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a rollout proceeds."""

    groups: Annotated[tuple[Group, ...], Meta(min_length=1, max_length=MAX_GROUPS)] = (Group(),)
    membership: Membership = Membership.SNAPSHOT
    pace: Pace = Pace()
    budgets: Annotated[tuple[DisruptionBudget, ...], Meta(max_length=8)] = ()
    abort: Annotated[tuple[AbortCriterion, ...], Meta(max_length=16)] = ()
    deadlines: Deadlines = Deadlines()
    retries: Retries = Retries(attempts=0)
    download_window: WindowSpec | None = None
    activate_window: WindowSpec | None = None
    # Unix seconds after which nothing starts any more and the rollout ends; 0: never.
    ends_at: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    # Of rollouts that want the same device at the same time the higher goes first; among equals
    # the newer supersedes.
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    # Windows, budgets and pace do not count; why it must be, as it stands in the audit log.
    override: _Text = ""


# One group, all at once: what a rollout is that asks for nothing.
ALL_AT_ONCE: Final = Strategy()
# The canary ladder: one device, then 1 %, 10 %, half, all. The canary must succeed. In each fleet a
# few devices fail for reasons of their own: after it the next group starts once enough succeeded,
# and what fails too often holds the rollout while the group still runs. A device that had the
# model loaded and went back says more against the release than one that could not fetch it.
LADDER: Final = Strategy(
    groups=(
        Group(name="canary", devices=1),
        Group(name="1 %", percent=1, success_percent=90),
        Group(name="10 %", percent=9, success_percent=95),
        Group(name="half", percent=40, success_percent=95),
        Group(name="rest", success_percent=95),
    ),
    abort=(
        AbortCriterion(FailureType.ROLLED_BACK, percent=10, min_count=2, min_ended=10),
        AbortCriterion(FailureType.FAILED, percent=20, min_count=3, min_ended=10),
        AbortCriterion(FailureType.TIMED_OUT, percent=20, min_count=3, min_ended=10),
        AbortCriterion(FailureType.REJECTED, percent=20, min_count=3, min_ended=10),
    ),
    retries=Retries(),
)
