"""Why a device stands where it stands under each alias, and what happens next. Pure.

Exactly one answer for each alias, always. The first rule that holds answers, in this order: what is
true of the device whatever is asked of it (removed, in quarantine); no rollout wants it; its newest
run is over or under way; its rollout gives no work; the run itself waits (penalty, retry, a rollout
of higher priority); its group waits; it was away for too long; a limit holds it; its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sprat_proto import windows
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step
from sprat_proto.windows import WindowError

from sprat_controller.rollout import budget
from sprat_controller.rollout.budget import Candidate
from sprat_controller.rollout.facts import Verdict
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.rollout.timing import windows_of
from sprat_controller.rollout.why import wording
from sprat_controller.rollout.why.known import AliasAt, DeviceAt, GroupAt, RolloutAt, Wanted
from sprat_controller.rollout.why.reasons import NO_WORK, NOTHING, OVER, advice


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
_GIVES_WORK: Final = frozenset({RolloutState.STARTING, RolloutState.RUNNING})
_STOPPED: Final = frozenset({RolloutState.STOPPING, RolloutState.STOPPED})
_ABORTABLE: Final = _STOPPED | {RolloutState.PAUSED}


def answers(device: DeviceAt, aliases: Sequence[AliasAt], now: datetime) -> tuple[Answer, ...]:
    """Return one answer for each alias, in their order; one without alias if there is none.

    Args:
        device: The device.
        aliases: What is known of each of its aliases.
        now: The caller's clock, timezone-aware.
    """
    return tuple(_answer(device, one, now) for one in aliases or (AliasAt(""),))


def is_next(device: DeviceAt, wanted: Wanted, now: datetime) -> bool:
    """Tell whether limits, or else those before it in the queue, answer for a device.

    Only then it matters what they count: `Wanted.load`, `Wanted.is_down` and `RunAt.ahead`.
    """
    is_queued = wanted.run.state is ExecutionState.QUEUED
    return is_queued and _of_device(device) is None and _waits(device, wanted, now) is None


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
        return _Found(ReasonCode.DEVICE_REMOVED, message, NOTHING)
    if device.quarantine is not None:
        because = device.quarantine or "nobody said why"
        message = f"{device.id} is in quarantine and gets no plans: {because}"
        return _Found(ReasonCode.IN_QUARANTINE, message, NOTHING)
    return None


def _of_alias(device: DeviceAt, alias: AliasAt, now: datetime) -> _Found:
    if alias.wanted is None:
        return _Found(
            ReasonCode.NOT_TARGETED,
            f"no rollout wants {device.id}{wording.meanwhile(alias)}",
            NOTHING,
        )
    wanted = alias.wanted
    if wanted.run.state.is_final:
        return _taken_back(device, wanted) or _over(device, alias, wanted, now)
    if wanted.run.state is ExecutionState.IN_PROGRESS:
        return _under_way(device, wanted, now)
    return _waits(device, wanted, now) or _limited(device, wanted) or _turn(device, wanted)


def _waits(device: DeviceAt, wanted: Wanted, now: datetime) -> _Found | None:
    """Return why its turn has not come; None if it has, as far as limits let it start."""
    return (
        _held(wanted, now)
        or _joins(device, wanted)
        or _own(device, wanted, now)
        or _by_group(wanted, now)
        or _away(device, wanted)
    )


def _taken_back(device: DeviceAt, wanted: Wanted) -> _Found | None:
    """Return that what was proved is about to be taken back."""
    rollout = wanted.rollout
    is_proved = wanted.run.state is ExecutionState.SUCCEEDED
    if not is_proved or rollout.state is not RolloutState.ROLLING_BACK:
        return None
    because = wording.because(rollout)
    message = f"{device.id} proved {rollout.brings}, which is being rolled back{because}"
    then = "it returns to what it ran before"
    return _Found(ReasonCode.ROLLED_BACK_BY_ROLLOUT, message, then, rollout.looks_at)


def _over(device: DeviceAt, alias: AliasAt, wanted: Wanted, now: datetime) -> _Found:
    run, rollout = wanted.run, wanted.rollout
    if run.state is not ExecutionState.SUCCEEDED:
        return _failed(device, alias, wanted, now)
    until = rollout.run_until
    if until is not None and until <= now:
        message = (
            f"{device.id} proved {rollout.brings}, which was to run until {wording.minute(until)}"
        )
        return _Found(ReasonCode.PLAN_EXPIRED, message, NOTHING)
    if alias.running is not None and alias.running == run.digest:
        known = "" if device.is_online else f" ({wording.silent(device)})"
        then = "nothing" if until is None else "it runs it no more"
        message = f"{device.id} proved {rollout.brings} and runs it{known}"
        return _Found(ReasonCode.IN_SYNC, message, then, until)
    if not device.is_online:
        message = f"{device.id} proved {rollout.brings}, and {wording.silent(device)}"
        return _Found(ReasonCode.OFFLINE, message, "it tells what it runs once it is back")
    found = alias.runs or alias.running or "nothing"
    message = f"{device.id} proved {rollout.brings}, and runs {found}"
    return _Found(ReasonCode.REVERTED, message, NOTHING)


def _failed(device: DeviceAt, alias: AliasAt, wanted: Wanted, now: datetime) -> _Found:
    run, brings = wanted.run, wanted.rollout.brings
    code = _code(run.reason) or OVER[run.state]
    said = run.reason.message if run.reason and run.reason.message else "without saying why"
    message = f"{brings} ended {run.state} on {device.id}: {said}{wording.meanwhile(alias)}"
    penalty = device.penalty_until
    if penalty is not None and penalty > now:
        return _Found(code, message, "rollouts may start there again", penalty)
    return _Found(code, message, NOTHING)


def _under_way(device: DeviceAt, wanted: Wanted, now: datetime) -> _Found:
    run, brings = wanted.run, wanted.rollout.brings
    if not device.is_online:
        message = f"{device.id} was given {brings}, and {wording.silent(device)}"
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
    code, said, then = NO_WORK[rollout.state]
    if rollout.stopped_by and rollout.state in _STOPPED:
        after = f", after it was held because {rollout.aborted}" if rollout.aborted else ""
        return _Found(code, f"{subject} {said} by {rollout.stopped_by}{after}", then)
    if rollout.aborted and rollout.state in _ABORTABLE:
        message = f"{subject} {said}, because {rollout.aborted}"
        return _Found(ReasonCode.ABORTED, message, then)
    if rollout.state is RolloutState.SCHEDULED and rollout.start_at is not None:
        message = f"{subject} starts at {wording.minute(rollout.start_at)}"
        return _Found(code, message, then, rollout.start_at)
    return _Found(code, f"{subject} {said}{wording.because(rollout)}", then)


def _ended(rollout: RolloutAt, subject: str, now: datetime) -> _Found | None:
    """Return that its time is over, after which nothing starts."""
    ends_at = rollout.strategy.ends_at
    if not ends_at or ends_at > now.timestamp():
        return None
    message = (
        f"{subject} starts nothing after {wording.minute(datetime.fromtimestamp(ends_at, UTC))}"
    )
    return _Found(ReasonCode.DEADLINE_PASSED, message, "its run is canceled", rollout.looks_at)


def _joins(device: DeviceAt, wanted: Wanted) -> _Found | None:
    """Return that the rollout is about to take it in."""
    if not wanted.is_joining:
        return None
    message = (
        f"{device.id} came to the target of {wanted.rollout.brings}{wording.also_away(device)}"
    )
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
        message = f"its group {wording.name(group)} was given up: {because}"
        return _Found(ReasonCode.ABORTED, message, "its run is canceled", wanted.rollout.looks_at)
    if wanted.before is not None:
        return _behind(wanted.before, group, now)
    if group.state in (GroupState.CREATING, GroupState.READY, GroupState.SCHEDULED):
        message = f"its group {wording.name(group)} is the next"
        return _Found(
            ReasonCode.WAITING_GROUP, message, "its group starts", wanted.rollout.looks_at
        )
    return None


def _behind(before: GroupAt, group: GroupAt, now: datetime) -> _Found:
    """Return what the group before it waits for."""
    waits = f"its group {wording.name(group)} waits for group {wording.name(before)}"
    if _has_failed_gate(before):
        return _gate_failed(before)
    if before.state in (GroupState.ERROR, GroupState.ROLLED_BACK):
        return _Found(ReasonCode.ABORTED, f"{waits}, which was given up", NOTHING)
    if before.soak_until is not None and before.soak_until > now:
        message = f"{waits}, which is under watch until {wording.minute(before.soak_until)}"
        then = "that group is judged"
        return _Found(ReasonCode.WAITING_GROUP, message, then, before.soak_until)
    if before.is_enough and before.has_gate and before.verdict is not Verdict.PASS:
        because = before.judgement or "it was not judged yet"
        message = f"{waits}, whose gate has insufficient data: {because}"
        return _Found(ReasonCode.GATE_HOLD, message, "it is judged again as devices tell more")
    if before.is_enough and before.waits_for_promotion:
        message = f"{waits}, which is done and waits to be promoted"
        return _Found(ReasonCode.WAITING_PROMOTION, message, NOTHING)
    message = f"{waits}, which is {before.state}: {before.succeeded} of {before.counting} succeeded"
    return _Found(ReasonCode.WAITING_GROUP, message, "its group starts once that one is done")


def _has_failed_gate(group: GroupAt | None) -> bool:
    is_done = group is None or group.state is GroupState.FINISHED
    return not is_done and group is not None and group.verdict is Verdict.FAIL


def _gate_failed(group: GroupAt) -> _Found:
    because = group.judgement or "a hardware class is worse than before"
    message = f"the gate of group {wording.name(group)} failed: {because}"
    return _Found(ReasonCode.GATE_FAILED, message, NOTHING)


def _away(device: DeviceAt, wanted: Wanted) -> _Found | None:
    if not wanted.run.is_excused:
        return None
    message = f"{wanted.rollout.brings} goes on without {device.id}, which {wording.silent(device)}"
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
    message = f"its start would break the limit {held.limit}{wording.also_away(device)}"
    return _Found(held.code, message, then, admission.again_at)


def _turn(device: DeviceAt, wanted: Wanted) -> _Found:
    ahead, brings = wanted.run.ahead, wanted.rollout.brings
    if ahead:
        noun = "device is" if ahead == 1 else "devices are"
        message = f"{ahead} {noun} before {device.id} in {brings}{wording.also_away(device)}"
        return _Found(ReasonCode.WAITING_TURN, message, "it starts when those did")
    message = f"{device.id} is the next in {brings}{wording.also_away(device)}"
    return _Found(ReasonCode.WAITING_TURN, message, "it starts", wanted.rollout.looks_at)


def _code(reason: Reason | None) -> ReasonCode | None:
    return ReasonCode(reason.code) if reason is not None and reason.code in _CODES else None
