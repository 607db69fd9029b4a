"""Why a device stands where it stands under each alias, and what happens next. Pure.

Exactly one answer for each alias, always. The first rule that holds answers, in this order: what is
true of the device whatever is asked of it (removed, in quarantine); no rollout wants it; its newest
run is over or under way; its rollout gives no work; the run itself waits (penalty, retry, a rollout
of higher priority); its group waits; it was away for too long; a limit holds it; its turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from sprat_proto import windows
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step
from sprat_proto.windows import WindowError

from sprat_controller.rollout import budget
from sprat_controller.rollout.budget import Candidate, Load
from sprat_controller.rollout.facts import Verdict
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy
from sprat_controller.rollout.timing import windows_of


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
        strategy: How it proceeds.
    """

    id: str
    brings: str
    state: RolloutState
    start_at: datetime | None = None
    looks_at: datetime | None = None
    run_until: datetime | None = None
    aborted: str = ""
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


@dataclass(frozen=True)
class Answer:
    """Why, what happens next and when, and what a person can do.

    Attributes:
        alias: Empty: the device has none.
        code: The reason: one of `ReasonCode`, and always one.
        message: The same in a sentence.
        then: What happens next.
        at: When that is; None: it waits for no time, or nobody knows.
        do: What a person can do.
        rollout_id: Whose the reason is; None: of no rollout.
    """

    alias: str
    code: ReasonCode
    message: str
    then: str
    do: str
    at: datetime | None = None
    rollout_id: str | None = None


@dataclass(frozen=True)
class _Found:
    """What a rule says."""

    code: ReasonCode
    message: str
    then: str
    at: datetime | None = None


_CODES: Final = frozenset(ReasonCode)
_NOTHING: Final = "nothing by itself"
# What it means that a run is over, if the run has no reason of its own.
_OVER: Final[Mapping[ExecutionState, ReasonCode]] = {
    ExecutionState.SUCCEEDED: ReasonCode.IN_SYNC,
    ExecutionState.FAILED: ReasonCode.INTERNAL_ERROR,
    ExecutionState.TIMED_OUT: ReasonCode.DEADLINE_PASSED,
    ExecutionState.REJECTED: ReasonCode.NO_VARIANT_FITS,
    ExecutionState.CANCELED: ReasonCode.STOPPED_BY_OPERATOR,
    ExecutionState.REMOVED: ReasonCode.DEVICE_REMOVED,
    ExecutionState.ROLLED_BACK: ReasonCode.PROBE_FAILED,
}
_WAIT: Final = "nothing: it goes on by itself"
_REPAIR: Final = "see `sprat rollout show {rollout}`, repair the release and roll that out"
_AGAIN: Final = (
    "remove the cause, then `sprat rollout retry-failed {rollout}`, or roll it out again"
)
_DO: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.WAITING_TURN: _WAIT,
    ReasonCode.WAITING_GROUP: "nothing, or see how its groups do: `sprat rollout show {rollout}`",
    ReasonCode.WAITING_START: (
        "wait for its time; or POST /api/v1/rollouts/{rollout}/start starts it now"
    ),
    ReasonCode.WAITING_APPROVAL: "`sprat rollout approval {rollout}` says who must approve it",
    ReasonCode.WAITING_WINDOW: "wait; in an emergency roll out with an override of windows",
    ReasonCode.WAITING_RETRY: "nothing, or look for the cause: `sprat devices show {device}`",
    ReasonCode.WAITING_PROMOTION: "`sprat rollout promote {rollout}` if you are content with it",
    ReasonCode.PAUSED: "`sprat rollout resume {rollout}`, or `sprat rollout stop {rollout}`",
    ReasonCode.PENALTY: "find out why it fails: `sprat devices show {device}`",
    ReasonCode.OFFLINE: "look at the device's power and network, and at its agent's log",
    ReasonCode.RATE_LIMIT: _WAIT,
    ReasonCode.DISRUPTION_BUDGET: "bring back the devices of that label that are down",
    ReasonCode.LOWER_PRIORITY: "nothing, or stop the other rollout",
    ReasonCode.GATE_HOLD: (
        "wait for more samples, or go on without: `sprat rollout promote {rollout}`"
    ),
    ReasonCode.GATE_FAILED: (
        "`sprat rollout roll-back {rollout}`; or, if the gate is wrong,"
        " `sprat rollout promote {rollout}` and `sprat rollout resume {rollout}`"
    ),
    ReasonCode.IN_PROGRESS: _WAIT,
    ReasonCode.IN_SYNC: "nothing",
    ReasonCode.NOT_TARGETED: "start a rollout whose target the device is in",
    ReasonCode.IN_QUARANTINE: "`sprat devices release-quarantine {device}` once it is understood",
    ReasonCode.DEVICE_REMOVED: "enrol it anew if it is to come back",
    ReasonCode.REVERTED: "see the device's audit: `sprat audit list --device {device}`",
    ReasonCode.STOPPED_BY_OPERATOR: "start another rollout if it is still wanted",
    ReasonCode.OUT_OF_SCOPE: "start a rollout whose target the device is in",
    ReasonCode.ABORTED: (
        "see `sprat rollout show {rollout}`; then `sprat rollout roll-back {rollout}`, or"
        " `sprat rollout resume {rollout}` if it is paused and may go on"
    ),
    ReasonCode.SUPERSEDED: "nothing, or start another rollout if it is still wanted",
    ReasonCode.ROLLED_BACK_BY_ROLLOUT: _REPAIR,
    ReasonCode.PLAN_EXPIRED: "start a rollout without an end if it is still wanted",
    ReasonCode.NO_VARIANT_FITS: "push a smaller variant, or free what the device lacks",
    ReasonCode.NO_PROFILE: "start its agent: it tells its hardware at first",
    ReasonCode.AGENT_TOO_OLD: "update the device's agent",
    ReasonCode.NOT_APPROVED: "`sprat rollout approval {rollout}` says who must approve it",
    ReasonCode.INTERNAL_ERROR: "report it, with `sprat rollout show {rollout} -o json`",
}
_GIVES_WORK: Final = frozenset({RolloutState.STARTING, RolloutState.RUNNING})
# Why a rollout gives no work in each other state, and what is next.
_NO_WORK: Final[Mapping[RolloutState, tuple[ReasonCode, str, str]]] = {
    RolloutState.CREATING: (ReasonCode.WAITING_START, "is being made", "it can be started"),
    RolloutState.READY: (ReasonCode.WAITING_START, "was not started", _NOTHING),
    RolloutState.SCHEDULED: (ReasonCode.WAITING_START, "starts later", "it starts"),
    RolloutState.WAITING_FOR_APPROVAL: (
        ReasonCode.WAITING_APPROVAL,
        "waits to be approved",
        "it starts, or waits for its time, once enough approved it",
    ),
    RolloutState.APPROVAL_DENIED: (ReasonCode.STOPPED_BY_OPERATOR, "was denied", _NOTHING),
    RolloutState.PAUSED: (ReasonCode.PAUSED, "is paused", _NOTHING),
    RolloutState.STOPPING: (ReasonCode.STOPPED_BY_OPERATOR, "was stopped", "its run is canceled"),
    RolloutState.STOPPED: (ReasonCode.STOPPED_BY_OPERATOR, "was stopped", _NOTHING),
    RolloutState.ROLLING_BACK: (
        ReasonCode.ROLLED_BACK_BY_ROLLOUT,
        "is being rolled back",
        "its run is canceled",
    ),
    RolloutState.ROLLED_BACK: (
        ReasonCode.ROLLED_BACK_BY_ROLLOUT,
        "was rolled back",
        _NOTHING,
    ),
    RolloutState.FINISHED: (
        ReasonCode.INTERNAL_ERROR,
        "finished and left the device out",
        _NOTHING,
    ),
}
_ABORTABLE: Final = frozenset({RolloutState.PAUSED, RolloutState.STOPPING, RolloutState.STOPPED})


def answers(device: DeviceAt, aliases: Sequence[AliasAt], now: datetime) -> tuple[Answer, ...]:
    """Return one answer for each alias, in their order; one without alias if there is none.

    Args:
        device: The device.
        aliases: What is known of each of its aliases.
        now: The caller's clock, timezone-aware.
    """
    return tuple(_answer(device, one, now) for one in aliases or (AliasAt(""),))


def advice(code: ReasonCode, *, device: str, rollout_id: str) -> str:
    """Return what a person can do about a reason."""
    return _DO.get(code, _AGAIN).format(rollout=rollout_id, device=device)


def _answer(device: DeviceAt, alias: AliasAt, now: datetime) -> Answer:
    found = _of_device(device) or _of_alias(device, alias, now)
    rollout_id = alias.wanted.rollout.id if alias.wanted else None
    do = advice(found.code, device=device.id, rollout_id=rollout_id or "ID")
    at = found.at if found.at is not None and found.at > now else None
    return Answer(alias.alias, found.code, found.message, found.then, do, at, rollout_id)


def _of_device(device: DeviceAt) -> _Found | None:
    """Return what holds whatever is asked of it."""
    if device.is_removed:
        message = f"{device.id} was removed from the fleet"
        return _Found(ReasonCode.DEVICE_REMOVED, message, _NOTHING)
    if device.quarantine is not None:
        because = device.quarantine or "nobody said why"
        message = f"{device.id} is in quarantine and gets no plans: {because}"
        return _Found(ReasonCode.IN_QUARANTINE, message, _NOTHING)
    return None


def _of_alias(device: DeviceAt, alias: AliasAt, now: datetime) -> _Found:
    if alias.wanted is None:
        return _Found(
            ReasonCode.NOT_TARGETED, f"no rollout wants {device.id}{_meanwhile(alias)}", _NOTHING
        )
    wanted = alias.wanted
    if wanted.run.state.is_final:
        return _taken_back(device, wanted) or _over(device, alias, wanted, now)
    if wanted.run.state is ExecutionState.IN_PROGRESS:
        return _under_way(device, wanted, now)
    return (
        _held(wanted, now)
        or _joins(device, wanted)
        or _own(device, wanted, now)
        or _by_group(wanted, now)
        or _away(device, wanted)
        or _limited(device, wanted)
        or _turn(device, wanted)
    )


def _taken_back(device: DeviceAt, wanted: Wanted) -> _Found | None:
    """Return that what was proved is about to be taken back."""
    rollout = wanted.rollout
    is_proved = wanted.run.state is ExecutionState.SUCCEEDED
    if not is_proved or rollout.state is not RolloutState.ROLLING_BACK:
        return None
    return _Found(
        ReasonCode.ROLLED_BACK_BY_ROLLOUT,
        f"{device.id} proved {rollout.brings}, which is being rolled back{_because(rollout)}",
        "it returns to what it ran before",
        rollout.looks_at,
    )


def _over(device: DeviceAt, alias: AliasAt, wanted: Wanted, now: datetime) -> _Found:
    run, rollout = wanted.run, wanted.rollout
    if run.state is not ExecutionState.SUCCEEDED:
        return _failed(device, alias, wanted, now)
    until = rollout.run_until
    if until is not None and until <= now:
        message = f"{device.id} proved {rollout.brings}, which was to run until {_moment(until)}"
        return _Found(ReasonCode.PLAN_EXPIRED, message, _NOTHING)
    if alias.running is not None and alias.running == run.digest:
        known = "" if device.is_online else f" ({_silent(device)})"
        then = "nothing" if until is None else "it runs it no more"
        message = f"{device.id} proved {rollout.brings} and runs it{known}"
        return _Found(ReasonCode.IN_SYNC, message, then, until)
    if not device.is_online:
        message = f"{device.id} proved {rollout.brings}, and {_silent(device)}"
        return _Found(ReasonCode.OFFLINE, message, "it tells what it runs once it is back")
    found = alias.runs or alias.running or "nothing"
    message = f"{device.id} proved {rollout.brings}, and runs {found}"
    return _Found(ReasonCode.REVERTED, message, _NOTHING)


def _failed(device: DeviceAt, alias: AliasAt, wanted: Wanted, now: datetime) -> _Found:
    run, brings = wanted.run, wanted.rollout.brings
    code = _code(run.reason) or _OVER[run.state]
    said = run.reason.message if run.reason and run.reason.message else "without saying why"
    message = f"{brings} ended {run.state} on {device.id}: {said}{_meanwhile(alias)}"
    penalty = device.penalty_until
    if penalty is not None and penalty > now:
        return _Found(code, message, "rollouts may start there again", penalty)
    return _Found(code, message, _NOTHING)


def _under_way(device: DeviceAt, wanted: Wanted, now: datetime) -> _Found:
    run, brings = wanted.run, wanted.rollout.brings
    if not device.is_online:
        message = f"{device.id} was given {brings}, and {_silent(device)}"
        then = "it goes on by itself, or has timed out"
        return _Found(ReasonCode.OFFLINE, message, then, run.deadline_at)
    if run.is_reverting:
        message = f"{device.id} returns from {brings} to what it ran before"
        then = "it has returned, or has timed out"
        return _Found(ReasonCode.ROLLED_BACK_BY_ROLLOUT, message, then, run.deadline_at)
    if run.step is Step.WAITING_WINDOW:
        message = f"{device.id} was given {brings} and waits for its window"
        opens = _opens_at(wanted.rollout.strategy, now)
        return _Found(ReasonCode.WAITING_WINDOW, message, "the window opens", opens)
    step = run.step or "started"
    message = f"{brings} is under way on {device.id}: {step}"
    return _Found(ReasonCode.IN_PROGRESS, message, "it ends, or has timed out", run.deadline_at)


def _opens_at(strategy: Strategy, now: datetime) -> datetime | None:
    """Return the first moment at which a window opens that is closed now."""
    told = windows_of(strategy)
    opens: list[datetime] = []
    for spec in (told.download, told.activate):
        if spec is None:
            continue
        try:
            window = windows.parse(spec)
        except WindowError:
            continue  # one that the device cannot tell either: it says so itself, by its report
        following = None if windows.is_open(window, now) else windows.next_open(window, now)
        opens += [] if following is None else [following]
    return min(opens, default=None)


def _held(wanted: Wanted, now: datetime) -> _Found | None:
    """Return why the whole rollout gives no work; None if it does."""
    rollout = wanted.rollout
    subject = f"the rollout {rollout.id} of {rollout.brings}"
    if rollout.state in _GIVES_WORK:
        return _ended(rollout, subject, now)
    failed = next((one for one in (wanted.before, wanted.group) if _has_failed_gate(one)), None)
    if rollout.state is RolloutState.PAUSED and failed is not None:
        return _gate_failed(failed)
    code, said, then = _NO_WORK[rollout.state]
    if rollout.aborted and rollout.state in _ABORTABLE:
        message = f"{subject} {said}, because an abort criterion was met: {rollout.aborted}"
        return _Found(ReasonCode.ABORTED, message, then)
    if rollout.state is RolloutState.SCHEDULED and rollout.start_at is not None:
        message = f"{subject} starts at {_moment(rollout.start_at)}"
        return _Found(code, message, then, rollout.start_at)
    return _Found(code, f"{subject} {said}{_because(rollout)}", then)


def _ended(rollout: RolloutAt, subject: str, now: datetime) -> _Found | None:
    """Return that its time is over, after which nothing starts."""
    ends_at = rollout.strategy.ends_at
    if not ends_at or ends_at > now.timestamp():
        return None
    message = f"{subject} starts nothing after {_moment(datetime.fromtimestamp(ends_at, UTC))}"
    return _Found(ReasonCode.DEADLINE_PASSED, message, "its run is canceled", rollout.looks_at)


def _joins(device: DeviceAt, wanted: Wanted) -> _Found | None:
    """Return that the rollout is about to take it in."""
    if not wanted.is_joining:
        return None
    message = f"{device.id} came to the target of {wanted.rollout.brings}{_also_away(device)}"
    then = "it is taken in, and waits for its turn"
    return _Found(ReasonCode.WAITING_TURN, message, then, wanted.rollout.looks_at)


def _own(device: DeviceAt, wanted: Wanted, now: datetime) -> _Found | None:
    """Return what holds this one run, whatever its group does."""
    retry_at, penalty = wanted.run.retry_at, device.penalty_until
    failed = f": {wanted.run.reason.message}" if wanted.run.reason else ""
    if penalty is not None and penalty > now:
        message = f"too many attempts failed on {device.id}{failed}"
        return _Found(ReasonCode.PENALTY, message, "rollouts may start there again", penalty)
    if retry_at is not None and retry_at > now:
        message = f"an attempt on {device.id} failed{failed}"
        return _Found(ReasonCode.WAITING_RETRY, message, "it is tried again", retry_at)
    if wanted.outranked_by:
        other = f"rollout {wanted.outranked_by}"
        message = f"{other} of higher priority is under way on {device.id}"
        return _Found(ReasonCode.LOWER_PRIORITY, message, f"it goes on once {other} is done there")
    return None


def _by_group(wanted: Wanted, now: datetime) -> _Found | None:
    """Return why its group does not give it work."""
    group = wanted.group
    if group is None:
        return None
    if group.state in (GroupState.ERROR, GroupState.ROLLED_BACK):
        because = wanted.rollout.aborted or f"it is {group.state}"
        message = f"its group {_name(group)} was given up: {because}"
        return _Found(ReasonCode.ABORTED, message, "its run is canceled", wanted.rollout.looks_at)
    if wanted.before is not None:
        return _behind(wanted.before, group, now)
    if group.state in (GroupState.CREATING, GroupState.READY, GroupState.SCHEDULED):
        message = f"its group {_name(group)} is the next"
        return _Found(
            ReasonCode.WAITING_GROUP, message, "its group starts", wanted.rollout.looks_at
        )
    return None


def _behind(before: GroupAt, group: GroupAt, now: datetime) -> _Found:
    """Return what the group before it waits for."""
    waits = f"its group {_name(group)} waits for group {_name(before)}"
    if _has_failed_gate(before):
        return _gate_failed(before)
    if before.state in (GroupState.ERROR, GroupState.ROLLED_BACK):
        return _Found(ReasonCode.ABORTED, f"{waits}, which was given up", _NOTHING)
    if before.soak_until is not None and before.soak_until > now:
        message = f"{waits}, which is under watch until {_moment(before.soak_until)}"
        then = "that group is judged"
        return _Found(ReasonCode.WAITING_GROUP, message, then, before.soak_until)
    if before.is_enough and before.has_gate and before.verdict is not Verdict.PASS:
        because = before.judgement or "it was not judged yet"
        message = f"{waits}, whose gate has insufficient data: {because}"
        return _Found(ReasonCode.GATE_HOLD, message, "it is judged again as devices tell more")
    if before.is_enough and before.waits_for_promotion:
        message = f"{waits}, which is done and waits to be promoted"
        return _Found(ReasonCode.WAITING_PROMOTION, message, _NOTHING)
    message = f"{waits}, which is {before.state}: {before.succeeded} of {before.counting} succeeded"
    return _Found(ReasonCode.WAITING_GROUP, message, "its group starts once that one is done")


def _has_failed_gate(group: GroupAt | None) -> bool:
    is_done = group is None or group.state is GroupState.FINISHED
    return not is_done and group is not None and group.verdict is Verdict.FAIL


def _gate_failed(group: GroupAt) -> _Found:
    because = group.judgement or "a hardware class is worse than before"
    message = f"the gate of group {_name(group)} failed: {because}"
    return _Found(ReasonCode.GATE_FAILED, message, _NOTHING)


def _away(device: DeviceAt, wanted: Wanted) -> _Found | None:
    if not wanted.run.is_excused:
        return None
    message = f"{wanted.rollout.brings} goes on without {device.id}, which {_silent(device)}"
    then = "it is in again once it is heard of"
    return _Found(ReasonCode.OFFLINE, message, then, wanted.run.deadline_at)


def _limited(device: DeviceAt, wanted: Wanted) -> _Found | None:
    """Return which limit its start would break, by the planner's own rule."""
    me = Candidate(device.id, device.labels, wanted.is_down)
    admission = budget.admit(wanted.rollout.strategy, wanted.load, (me,))
    if not admission.held:
        return None
    (held,) = admission.held
    then = "it starts as soon as there is room"
    message = f"its start would break the limit {held.limit}{_also_away(device)}"
    return _Found(held.code, message, then, admission.again_at)


def _turn(device: DeviceAt, wanted: Wanted) -> _Found:
    ahead, brings = wanted.run.ahead, wanted.rollout.brings
    if ahead:
        noun = "device is" if ahead == 1 else "devices are"
        message = f"{ahead} {noun} before {device.id} in {brings}{_also_away(device)}"
        return _Found(ReasonCode.WAITING_TURN, message, "it starts when those did")
    message = f"{device.id} is the next in {brings}{_also_away(device)}"
    return _Found(ReasonCode.WAITING_TURN, message, "it starts", wanted.rollout.looks_at)


def _code(reason: Reason | None) -> ReasonCode | None:
    return ReasonCode(reason.code) if reason is not None and reason.code in _CODES else None


def _because(rollout: RolloutAt) -> str:
    return f": {rollout.aborted}" if rollout.aborted else ""


def _meanwhile(alias: AliasAt) -> str:
    return f"; it runs {alias.runs}" if alias.runs else ""


def _also_away(device: DeviceAt) -> str:
    return "" if device.is_online else f" (it {_silent(device)})"


def _silent(device: DeviceAt) -> str:
    if device.last_seen_at is None:
        return "was never heard of"
    return f"was not heard of since {_moment(device.last_seen_at)}"


def _name(group: GroupAt) -> str:
    number = str(group.number)
    return number if group.name in ("", number) else f"{number} ({group.name})"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
