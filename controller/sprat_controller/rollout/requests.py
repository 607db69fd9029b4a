"""What is asked of rollouts and what is answered: values, neither rows nor JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sprat_proto import fit
from sprat_proto.assignment import AS_DEVICE_DECIDES, ServingTerms
from sprat_proto.manifest import is_model_name, is_release_version
from sprat_proto.policy import FitPolicy
from sprat_proto.states import ExecutionState, GroupState, RolloutState

from sprat_controller.access import scopes
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.errors import RequestError
from sprat_controller.fleet import target_filter
from sprat_controller.fleet.filters.fields import FIELDS, Field, Kind
from sprat_controller.fleet.filters.tree import Matches, Pattern, Tree, all_of
from sprat_controller.rollout import fit_policy, strategy_said, timing
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy

CONTEXT: Final = range(64, (1 << 20) + 1)  # tokens, as `sprat_proto.assignment.Policy` allows
MAX_DEVICES: Final = 10_000  # named one by one; a larger target is a label
MAX_TIMEOUT_S: Final = 366 * 86400
DEFAULT_CONTEXT: Final = 2048
DEFAULT_TIMEOUT_S: Final = 86400


@dataclass(frozen=True)
class Target:
    """Who is in: devices with all the labels that match the filter; if any are named, only those.

    All empty: all devices that were not removed. The filter is in the words of `target_filter`, and
    so is the scope of whoever asked: outside of it nothing is in, whatever is asked, and what is
    named is not there.
    """

    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    devices: tuple[str, ...] = ()
    filter: str = ""
    scope: str = ""


@dataclass(frozen=True)
class PlanRequest:
    """Which release, under which alias, to whom."""

    model: str
    release: str
    alias: str
    target: Target = field(default_factory=Target)
    context: int = DEFAULT_CONTEXT  # tokens
    terms: ServingTerms = AS_DEVICE_DECIDES
    policy: FitPolicy | None = None  # None: the release's own


@dataclass(frozen=True)
class RolloutRequest:
    """A rollout to create.

    Attributes:
        plan: What and to whom.
        name: For people; empty: `model@release`.
        start_at: Timezone-aware; None: it waits for `start`. A moment gone by is due at once.
        max_in_progress: Devices that may be under way at a time; 0: as the strategy says.
        execution_timeout_s: From a device's assignment to its TIMED_OUT; None: as the strategy
            says.
        strategy: How it proceeds.
    """

    plan: PlanRequest
    name: str = ""
    start_at: datetime | None = None
    max_in_progress: int = 0
    execution_timeout_s: int | None = None
    strategy: Strategy = ALL_AT_ONCE


@dataclass(frozen=True)
class RolloutEdit:
    """What is to be different of a rollout, as far as it has not started; None: as it is.

    Attributes:
        name: For people.
        max_in_progress: As in `RolloutRequest`, beside the strategy.
        execution_timeout_s: The same.
        start_at: Timezone-aware. A moment gone by is due at once.
        strategy: The words of it that are to be different, each as a whole, as JSON says them.
    """

    name: str | None = None
    max_in_progress: int | None = None
    execution_timeout_s: int | None = None
    start_at: datetime | None = None
    strategy: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class GivenApproval:
    """An approval of what was looked at.

    Attributes:
        spec_sha256: Of the frozen specification, in hex.
        envelope: DSSE over it as JSON text, with one signature; empty: without one.
    """

    spec_sha256: str
    envelope: str = ""


@dataclass(frozen=True)
class ApprovalView:
    """What is to be approved of a rollout, and how far that is.

    Attributes:
        rollout_id: Which.
        state: Where it is.
        spec: The frozen specification, canonical JSON; None before it was submitted.
        strategy: The canonical document whose digest it binds.
        approved_by: Who approved that.
        missing: What it still takes, in words.
    """

    rollout_id: str
    state: RolloutState
    spec: str | None
    strategy: str
    approved_by: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class GroupView:
    """A slice of a rollout, and how many of its executions are in each state."""

    number: int  # from 0
    name: str
    state: GroupState
    devices: int  # when the rollout was created
    started_at: datetime | None
    soak_until: datetime | None
    finished_at: datetime | None
    verdict: Mapping[str, Any] | None  # of its gate, and why
    promoted_by: str | None
    promoted_at: datetime | None
    counts: Mapping[ExecutionState, int]


@dataclass(frozen=True)
class RolloutView:
    """A rollout and how many of its executions are in each state."""

    id: str
    name: str
    model: str
    release: str
    alias: str
    target: Target
    context: int
    slots: int  # 0: as the device decides
    kv_type: str
    pinned: bool
    policy: Mapping[str, Any] | None  # `fit_policy.said`; None: the release's own
    state: RolloutState
    start_at: datetime | None
    max_in_progress: int
    execution_timeout_s: int
    created_at: datetime
    created_by: str
    started_at: datetime | None
    finished_at: datetime | None
    counts: Mapping[ExecutionState, int]
    strategy: Strategy
    groups: tuple[GroupView, ...]
    revision: int  # one more with each change
    abort: Mapping[str, Any] | None  # the criterion that was met, and how it stood
    approval_override: Mapping[str, Any] | None  # `approval_override.told`; None: there is none


@dataclass(frozen=True)
class ExecutionView:
    """One device's run, with the variant's name and why it was chosen."""

    id: str
    rollout_id: str
    device_id: str
    position: int
    state: ExecutionState
    step: str | None
    attempt: int  # one more with each variant that the device refused, retry and way back
    variant: str | None
    digest: str | None
    reason: Mapping[str, Any] | None  # code, message, expected, found
    verdicts: tuple[Mapping[str, Any], ...]
    probe: Mapping[str, Any] | None  # by the names of `probes.ProbeResult`
    created_at: datetime
    started_at: datetime | None
    deadline_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    group: int  # number of its group, from 0
    hardware_class: str
    site: str
    tries: int  # how often it was tried again
    retry_at: datetime | None  # when the next try may be given out
    excused_at: datetime | None  # since when its silent device counts no more
    is_reverting: bool  # the rollout takes back, or took back, what it brought


def target_json(target: Target) -> dict[str, Any]:
    """Return the target as it stands in `Rollout.target`."""
    said = {"filter": target.filter, "scope": target.scope}
    asked = {name: text for name, text in said.items() if text}
    return {"labels": dict(target.labels), "devices": [*target.devices], **asked}


def target_from(stored: Mapping[str, Any]) -> Target:
    """Return a target from its stored JSON; rows of old have no filter and no scope."""
    said = (stored.get(name, "") for name in ("filter", "scope"))
    return Target(stored["labels"], tuple(stored["devices"]), *said)


def confined(target: Target, scope: Scope) -> Target:
    """Return the target within a scope: it can never grow beyond that, nor beyond its own."""
    if scope.is_everything:
        return target
    return replace(target, scope=scopes.read(scopes.read(target.scope).narrowed(scope).text).text)


def reach(target: Target) -> Scope:
    """Return what the target can ever reach, to tell whether that is within somebody's scope."""
    terms: list[Tree] = [
        Matches(Field(key, Kind.LABEL), (Pattern((value,)),))
        for key, value in sorted(target.labels.items())
    ]
    if target.devices:
        names = tuple(Pattern((name,)) for name in target.devices)
        terms.append(Matches(FIELDS["device"], names))
    found = Scope(all_of(terms)) if terms else EVERYTHING
    for text in (target.filter, target.scope):
        found = found.narrowed(Scope(target_filter.parse(text)))
    return found


def check_plan(request: PlanRequest) -> None:
    """Check what a database cannot know.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    for what, name in (("model", request.model), ("alias", request.alias)):
        if not is_model_name(name):
            raise _wrong(what, "a name of a-z, 0-9 and ._- (at most 64)", name)
    if not is_release_version(request.release):
        raise _wrong("release", "a version such as 1.3.0", request.release)
    check_running(request.context, request.terms, request.policy)
    target_filter.parse(request.target.filter)
    if len(request.target.devices) > MAX_DEVICES:
        many = f"{len(request.target.devices)} of them: use a label"
        raise _wrong("devices", f"at most {MAX_DEVICES} names", many)


def check_running(context: int, terms: ServingTerms, policy: FitPolicy | None) -> None:
    """Check how a model is asked to run.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    if context not in CONTEXT:
        raise _wrong("context", f"{CONTEXT.start} to {CONTEXT.stop - 1} tokens", context)
    _check_terms(terms)
    if policy is not None:
        fit_policy.check(policy, context)


def check_rollout(request: RolloutRequest, now: datetime) -> None:
    """Check a request for a rollout.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    check_plan(request.plan)
    _check_pace(request.max_in_progress, request.execution_timeout_s)
    strategy_said.check(request.strategy)
    fault = timing.fault(request.strategy, now)
    if fault is not None:
        raise RequestError("invalid_rollout", fault)
    _check_moment(request.start_at)


def check_edit(request: RolloutEdit) -> None:
    """Check a request to change a rollout.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    if request == RolloutEdit() or request == RolloutEdit(strategy={}):
        raise RequestError("nothing_to_change", "expected something to change, found nothing")
    _check_pace(request.max_in_progress or 0, request.execution_timeout_s)
    _check_moment(request.start_at)


def _check_moment(start_at: datetime | None) -> None:
    if start_at is not None and start_at.tzinfo is None:
        raise _wrong("start_at", "a moment with a time zone", start_at.isoformat())


def _check_terms(terms: ServingTerms) -> None:
    if not 0 <= terms.slots <= fit.MAX_SLOTS:
        expected = f"1 to {fit.MAX_SLOTS}, or 0 to have each device decide"
        raise _wrong("slots", expected, terms.slots)
    if terms.kv_type not in fit.KV_BLOCKS:
        raise _wrong("kv_type", " or ".join(fit.KV_BLOCKS), terms.kv_type)


def _check_pace(max_in_progress: int, execution_timeout_s: int | None) -> None:
    if max_in_progress < 0:
        raise _wrong("max_in_progress", "0 (no limit) or more", max_in_progress)
    if execution_timeout_s is not None and not 1 <= execution_timeout_s <= MAX_TIMEOUT_S:
        raise _wrong("execution_timeout_s", f"1 to {MAX_TIMEOUT_S} seconds", execution_timeout_s)


def _wrong(what: str, expected: str, found: object) -> RequestError:
    return RequestError("invalid_rollout", f"{what}: expected {expected}, found {found!r}")
