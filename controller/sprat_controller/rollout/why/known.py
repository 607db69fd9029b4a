"""What is known of a device, and of what it is asked to run: values only. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sprat_proto.states import ExecutionState, GroupState, RolloutState, Step

from sprat_controller.rollout.budget import Load
from sprat_controller.rollout.facts import Verdict
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy


@dataclass(frozen=True)
class DeviceAt:
    """How a device is, whatever is asked of it.

    Attributes:
        id: Its name.
        is_removed: From the fleet.
        quarantine: Why it is in quarantine; None: it is not.
        is_online: It is connected.
        last_seen_at: When it was heard of last.
        penalty_until: Before which no rollout starts there.
        labels: All; one that is missing counts as ''.
    """

    id: str
    is_removed: bool = False
    quarantine: str | None = None
    is_online: bool = True
    last_seen_at: datetime | None = None
    penalty_until: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class GroupAt:
    """How a group of a rollout is.

    Attributes:
        number: From 0; index into `Strategy.groups`.
        state: Where it is.
        soak_until: When it was watched long enough.
        has_gate: It is judged by what its devices measure.
        verdict: Of its gate; None: it was not judged.
        judgement: The gate's own sentence.
        waits_for_promotion: It asks a person, and nobody has said so.
        is_enough: As many succeeded as must before the next group starts.
        succeeded: Executions of it that succeeded.
        counting: Executions of which the success threshold is a share.
    """

    number: int
    state: GroupState
    name: str = ""
    soak_until: datetime | None = None
    has_gate: bool = False
    verdict: Verdict | None = None
    judgement: str = ""
    waits_for_promotion: bool = False
    is_enough: bool = False
    succeeded: int = 0
    counting: int = 0


@dataclass(frozen=True)
class RolloutAt:
    """How a rollout is.

    Attributes:
        id: Which.
        brings: model@release.
        state: Where it is.
        start_at: When it starts by itself.
        looks_at: When the controller looks at it next.
        run_until: After which devices no longer run what it brought; None: for ever.
        aborted: Which criterion was met, in a sentence; empty: none.
        stopped_by: Who stopped it; empty: no person did, or nobody wrote it down.
        held_back: Why it did not start when its time came; empty: nothing kept it from that.
        strategy: How it proceeds.
    """

    id: str
    brings: str
    state: RolloutState
    start_at: datetime | None = None
    looks_at: datetime | None = None
    run_until: datetime | None = None
    aborted: str = ""
    stopped_by: str = ""
    held_back: str = ""
    strategy: Strategy = ALL_AT_ONCE


@dataclass(frozen=True)
class RunAt:
    """How the device's own run is.

    Attributes:
        state: Where it is.
        step: What it does, if it is under way.
        digest: Of its variant.
        ahead: Queued runs of its group that come before it.
        retry_at: Before which it is not tried again.
        deadline_at: When it has taken too long.
        is_excused: The device was away for longer than the grace.
        is_reverting: It goes back to what the device ran before.
        reason: What was said of it last.
    """

    state: ExecutionState
    step: Step | None = None
    digest: str | None = None
    ahead: int = 0
    retry_at: datetime | None = None
    deadline_at: datetime | None = None
    is_excused: bool = False
    is_reverting: bool = False
    reason: Reason | None = None


@dataclass(frozen=True)
class Wanted:
    """The run that answers for an alias, and what may hold it.

    Attributes:
        rollout: Of which it is.
        run: It.
        group: Its group; None: not known.
        before: The first group before that one that is not done; None: there is none.
        outranked_by: The rollout of higher priority that is under way under this alias here.
        load: What the rollout's limits count, at least for the labels of this device.
        is_down: The device counts among those that are down already.
        is_joining: It came to the target after the rollout began, and its run is about to be made.
    """

    rollout: RolloutAt
    run: RunAt
    group: GroupAt | None = None
    before: GroupAt | None = None
    outranked_by: str = ""
    load: Load = field(default_factory=Load)
    is_down: bool = False
    is_joining: bool = False


@dataclass(frozen=True)
class AliasAt:
    """What is known of one alias of the device."""

    alias: str
    running: str | None = None  # digest that answers
    runs: str = ""  # the same for people: model@release
    wanted: Wanted | None = None
