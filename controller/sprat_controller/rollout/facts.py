"""What the planner knows of a rollout, and what it can decide: values only. Pure.

Facts are bounded: of the executions that something may have to be done to, each list holds the
first `chunk` in the order of work, however many devices there are. So one look costs the same in
every fleet, and what a decision carries fits into one short transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from sprat_proto.states import GroupState, RolloutState

from sprat_controller.rollout.budget import Candidate, Load
from sprat_controller.rollout.grouping import Member, Placed
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.strategy import AbortCriterion, Strategy

CHUNK = 100  # executions in one transaction: 0.1-0.3 s of signing and writing


class Verdict(StrEnum):
    """What a gate says of a group now."""

    PASS = "PASS"  # noqa: S105 - a word, not a secret
    HOLD = "HOLD"  # too few samples to judge
    FAIL = "FAIL"


@dataclass(frozen=True)
class Tally:
    """How many executions of a group are where; each is counted once.

    Attributes:
        queued: Not given out, and not excused. Those that wait for a retry are among them.
        in_progress: Given out, not excused, and on the way forward.
        reverting: Given out again to go back to what the device ran before.
        excused: Not final, of devices that were not heard of for longer than the grace.
        succeeded: And still in place.
        failed: Failed for good.
        timed_out: Past a deadline.
        rejected: The device refused what it was given, and no other variant was left.
        rolled_back: The device went back by itself.
        taken_back: They had succeeded or were under way, and the rollout took them back.
        canceled: They ended without being judged: canceled; TIMED_OUT with code OFFLINE; REJECTED
            when the rollout was planned (never given out), as the plan had said.
        removed: Their devices left the fleet.
    """

    queued: int = 0
    in_progress: int = 0
    reverting: int = 0
    excused: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    rejected: int = 0
    rolled_back: int = 0
    taken_back: int = 0
    canceled: int = 0
    removed: int = 0

    @property
    def unfinished(self) -> int:
        """Return how many are not final."""
        return self.queued + self.in_progress + self.reverting + self.excused

    @property
    def failures(self) -> int:
        """Return how many ended badly, of all types."""
        return self.failed + self.timed_out + self.rejected + self.rolled_back

    @property
    def judged(self) -> int:
        """Return how many ended well or badly: what abort criteria take their percent of."""
        return self.succeeded + self.taken_back + self.failures

    @property
    def counting(self) -> int:
        """Return what the success threshold is a share of: all but excused, canceled, removed."""
        return self.queued + self.in_progress + self.reverting + self.judged


@dataclass(frozen=True)
class GroupFacts:
    """One group, in the order of the strategy.

    Attributes:
        number: From 0; index into `Strategy.groups`.
        state: Where it is.
        tally: Its executions.
        soak_until: When it was watched long enough; None: it does not soak.
        verdict: Of its gate; None: it has none, or did not start.
        is_promoted: A person said that the next group may start, whatever this one waits for, and
            even if it is in ERROR or ROLLED_BACK.
        since: Its tally when a person last resumed the rollout after an abort: criteria are judged
            on what came after.
        goes_back: It is in ERROR by a ROLLBACK, which ends by `EndRollback`.
    """

    number: int
    state: GroupState
    tally: Tally = field(default_factory=Tally)
    soak_until: datetime | None = None
    verdict: Verdict | None = None
    is_promoted: bool = False
    since: Tally = field(default_factory=Tally)
    goes_back: bool = False


@dataclass(frozen=True)
class Facts:
    """All that a decision rests on.

    Each tuple of execution ids is in order of position and holds `chunk` at the most.

    Attributes:
        state: Of the rollout.
        strategy: As it is frozen.
        groups: All, in order.
        start_at: When a SCHEDULED one starts; None: a person starts it.
        objection: Why a SCHEDULED one whose time has come is not to start: who asked for it may not
            by now, or too few approvals of it are left; None: nothing speaks against it.
        salt: What is rolled out, as `grouping.split` had it.
        queue: QUEUED executions of groups that are RUNNING, SOAKING or FINISHED, whose retry time
            has come, not excused, of devices that are neither in the penalty box nor held by a
            rollout of higher priority; of label values whose budget is used up
            (`budget.exhausted`) none. Empty unless the rollout is RUNNING.
        load: What is under way, for `budget.admit`.
        overdue: IN_PROGRESS and past `deadline_at`, not excused; and excused ones, QUEUED too, that
            are excused for longer than `deadlines.excused_until` says.
        removed: Not final, of devices that were removed from the fleet.
        silent: Not final, not excused, not on the way back, of groups that started, of devices not
            heard of for `offline_grace_s` (0: none).
        returned: Excused, of devices that are heard of again.
        unfinished: Not final, without `removed` and those on the way back, of what is to be ended:
            of all groups when the rollout is STOPPING, ROLLING_BACK or APPROVAL_DENIED; else of
            the groups in ERROR and, once `strategy.ends_at` has passed, all QUEUED ones.
        proved: SUCCEEDED (not skipped: these the rollout did not change), of what is to be rolled
            back: of all groups when the rollout is ROLLING_BACK, else of those that `goes_back`.
        joiners: Devices that match a CONTINUOUS target and have no execution yet.
        wakes_at: The earliest time at which one of the lists above may grow by itself: the next
            deadline, retry, end of a penalty or of a grace; None: nothing waits for time.
        chunk: The most that one decision carries.
    """

    state: RolloutState
    strategy: Strategy
    groups: tuple[GroupFacts, ...]
    start_at: datetime | None = None
    objection: Reason | None = None
    salt: str = ""
    queue: tuple[Candidate, ...] = ()
    load: Load = field(default_factory=Load)
    overdue: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    proved: tuple[str, ...] = ()
    joiners: tuple[Member, ...] = ()
    wakes_at: datetime | None = None
    chunk: int = CHUNK


@dataclass(frozen=True)
class StartRollout:
    """Its time has come: SCHEDULED to STARTING."""


@dataclass(frozen=True)
class HoldBack:
    """Its time has come, and it may not start by itself: SCHEDULED to READY, without a time."""

    reason: Reason


@dataclass(frozen=True)
class RunRollout:
    """STARTING to RUNNING."""


@dataclass(frozen=True)
class StartGroup:
    """Its turn has come: SCHEDULED to RUNNING."""

    number: int


@dataclass(frozen=True)
class SoakGroup:
    """Enough succeeded: RUNNING to SOAKING."""

    number: int
    until: datetime


@dataclass(frozen=True)
class FinishGroup:
    """It proved itself, was promoted, or nobody is in it: to FINISHED."""

    number: int


@dataclass(frozen=True)
class Assign:
    """Give these devices their assignments: QUEUED to IN_PROGRESS."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class TimeOut:
    """These are past their deadline."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class Remove:
    """The devices of these were removed from the fleet."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class Excuse:
    """These count no more until their devices return."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class Readmit:
    """These count again: their devices are back."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class Join:
    """These devices are in now, each QUEUED in its group."""

    placed: tuple[Placed, ...]


@dataclass(frozen=True)
class Abort:
    """A criterion is met; nothing starts after this.

    PAUSE: the rollout is PAUSED. CANCEL and ROLLBACK on the rollout: STOPPING, ROLLING_BACK. On a
    group: the group is in ERROR (its unfinished end, and by ROLLBACK what succeeded returns), and
    the rollout is PAUSED.

    A miss: no criterion that was asked for; the group cannot come to its success threshold any
    more, `failures` of the `judged` that count in it are lost.
    """

    group: int
    criterion: AbortCriterion
    failures: int
    judged: int
    is_miss: bool = False


@dataclass(frozen=True)
class FailGate:
    """The group's gate says FAIL: the rollout is PAUSED, the group stays as it is."""

    group: int


@dataclass(frozen=True)
class Cancel:
    """These end unjudged, and their devices return to what they ran before."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class Revert:
    """These had succeeded: their devices return to what they still hold. No model bytes move."""

    executions: tuple[str, ...]


@dataclass(frozen=True)
class FinishRollout:
    """Every execution is final, and nobody joins any more."""


@dataclass(frozen=True)
class StopRollout:
    """All that was unfinished is cancelled: STOPPING to STOPPED."""


@dataclass(frozen=True)
class EndRollback:
    """All that had succeeded is back: ROLLING_BACK to ROLLED_BACK (a group: ERROR to it)."""

    group: int | None = None  # None: the rollout


Decision: TypeAlias = (
    StartRollout
    | HoldBack
    | RunRollout
    | StartGroup
    | SoakGroup
    | FinishGroup
    | Assign
    | TimeOut
    | Remove
    | Excuse
    | Readmit
    | Join
    | Abort
    | FailGate
    | Cancel
    | Revert
    | FinishRollout
    | StopRollout
    | EndRollback
)
