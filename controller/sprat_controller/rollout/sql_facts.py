"""What the planner knows of a rollout, read out of the rows: bounded, by indexed look-ups.

One pass over what is unfinished tells what there is to list at all; only that is listed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sql
from sprat_proto.states import ExecutionState, GroupState, RolloutState
from sqlmodel import Session, col, select

from sprat_controller.rollout import budget, targets, unavailable
from sprat_controller.rollout.budget import Candidate, Load
from sprat_controller.rollout.facts import CHUNK, Facts, GroupFacts, Tally, Verdict
from sprat_controller.rollout.grouping import Member
from sprat_controller.rollout.records import UNFINISHED, strategy_of
from sprat_controller.rollout.requests import Target, target_from
from sprat_controller.rollout.strategy import Membership, Strategy
from sprat_controller.store.tables import (
    Device,
    DeviceLabel,
    Execution,
    Rollout,
    RolloutGroup,
)

# Groups whose executions may be given out.
OPEN: Final = (GroupState.RUNNING, GroupState.SOAKING, GroupState.FINISHED)
# Rollouts that end whatever is unfinished in them.
ENDING: Final = (
    RolloutState.STOPPING,
    RolloutState.ROLLING_BACK,
    RolloutState.APPROVAL_DENIED,
)
_SEEN: Final[sql.ColumnElement[datetime]] = sql.func.coalesce(
    col(Device.last_seen_at), col(Device.enrolled_at)
)
_TABLES: Final = Execution.metadata.tables
_OTHER: Final = _TABLES["execution"].alias("other")
_OTHERS: Final = _TABLES["rollout"].alias("others")


@dataclass(frozen=True)
class _Scope:
    """A rollout that is looked at, and what is asked of it again and again."""

    session: Session
    rollout: Rollout
    strategy: Strategy
    open_groups: tuple[int, ...]
    now: datetime

    @property
    def unfinished(self) -> sql.ColumnElement[bool]:
        """Its executions that are not final."""
        of_rollout = col(Execution.rollout_id) == self.rollout.id
        return of_rollout & col(Execution.state).in_(UNFINISHED)

    @property
    def queued(self) -> sql.ColumnElement[bool]:
        """Its executions that may be given out, as far as they themselves tell."""
        return sql.and_(
            col(Execution.rollout_id) == self.rollout.id,
            col(Execution.state) == ExecutionState.QUEUED.value,
            col(Execution.group_number).in_(self.open_groups),
            col(Execution.excused_at).is_(None),
        )

    @property
    def watched(self) -> sql.ColumnElement[bool]:
        """Those whose devices must let hear of themselves."""
        return sql.and_(
            self.unfinished,
            col(Execution.group_number).in_(self.open_groups),
            col(Execution.excused_at).is_(None),
            col(Execution.is_reverting).is_(sql.false()),
            col(Device.revoked_at).is_(None),
        )

    @property
    def overdue(self) -> sql.ColumnElement[bool]:
        """Those past their deadline; QUEUED ones have one only while they are excused."""
        return self.unfinished & (col(Execution.deadline_at) <= self.now) & _STAYS

    @property
    def grace(self) -> timedelta:
        """How long a device may be silent; zero: for ever."""
        return timedelta(seconds=self.strategy.deadlines.offline_grace_s)


@dataclass(frozen=True)
class _Census:
    """What one pass over the unfinished tells."""

    removed: bool
    returned: bool
    overdue: bool
    next_deadline: datetime | None
    next_retry: datetime | None
    next_penalty: datetime | None
    heard_first: datetime | None  # the longest silent of those that are watched


_STAYS: Final = col(Device.revoked_at).is_(None)
RETURNED: Final = col(Execution.excused_at).is_not(None) & (
    col(Device.last_seen_at) >= col(Execution.excused_at)
)


def read(session: Session, rollout: Rollout, now: datetime) -> Facts:
    """Return what there is to know of a rollout that is held."""
    rows = groups(session, rollout.id)
    strategy = strategy_of(rollout)
    opened = tuple(row.number for row in rows if row.state in OPEN)
    scope = _Scope(session, rollout, strategy, opened, now)
    census = _census(scope)
    is_running = rollout.state == RolloutState.RUNNING
    load = unavailable.load(session, rollout.id, strategy, now) if is_running else Load()
    cut_off = now - scope.grace
    is_silent = census.heard_first is not None and census.heard_first <= cut_off
    silent = scope.watched & _silent_since(cut_off)
    return Facts(
        state=RolloutState(rollout.state),
        strategy=strategy,
        groups=_group_facts(rollout, rows, tallies(session, rollout.id)),
        start_at=rollout.start_at,
        salt=f"{rollout.model}@{rollout.release}",
        queue=startable(session, rollout, now, load) if is_running else (),
        load=load,
        overdue=_listed(scope, scope.overdue) if census.overdue else (),
        removed=_listed(scope, scope.unfinished & sql.not_(_STAYS)) if census.removed else (),
        silent=_listed(scope, silent) if is_silent else (),
        returned=(_listed(scope, scope.unfinished & RETURNED & _STAYS) if census.returned else ()),
        unfinished=_to_end(scope, rows),
        proved=_proved(scope, rows),
        joiners=_joiners(scope) if is_running else (),
        wakes_at=_wakes_at(scope, census),
    )


def groups(session: Session, rollout_id: str) -> Sequence[RolloutGroup]:
    """Return the rows of its groups, in order."""
    found = select(RolloutGroup).where(col(RolloutGroup.rollout_id) == rollout_id)
    fresh = found.order_by(col(RolloutGroup.number)).execution_options(populate_existing=True)
    return session.exec(fresh).all()


def tallies(session: Session, rollout_id: str) -> Mapping[int, Tally]:
    """Return how many executions of each group are where; groups without any are left out."""
    kinds = (
        col(Execution.group_number),
        col(Execution.state),
        col(Execution.is_reverting),
        col(Execution.excused_at).is_not(None),
        col(Execution.started_at).is_not(None),
    )
    rows = session.connection().execute(
        sql.select(*kinds, sql.func.count())
        .where(col(Execution.rollout_id) == rollout_id)
        .group_by(*kinds)
    )
    counts: dict[int, dict[str, int]] = {}
    for number, state, is_reverting, excused, given, count in rows:
        name = _tallied(
            ExecutionState(state), is_reverting=is_reverting, is_excused=excused, was_given=given
        )
        of_group = counts.setdefault(number, {})
        of_group[name] = of_group.get(name, 0) + count
    return {number: Tally(**found) for number, found in counts.items()}


def resumed(tallies: Mapping[int, Tally], abort: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of an abort when a person resumes: what counts no more from now on."""
    since = {
        str(number): {name: count for name, count in asdict(tally).items() if count}
        for number, tally in tallies.items()
    }
    kept = {"going_back": abort["going_back"]} if "going_back" in abort else {}
    return {**kept, "since": since}


def startable(
    session: Session,
    rollout: Rollout,
    now: datetime,
    load: Load,
    *,
    among: Collection[str] | None = None,
) -> tuple[Candidate, ...]:
    """Return the head of the queue, in order of position.

    Args:
        session: A transaction.
        rollout: Whose; it is RUNNING.
        now: The caller's clock.
        load: What is under way: label values without a free slot are left out.
        among: Only these executions; None: any.
    """
    opened = [row.number for row in groups(session, rollout.id) if row.state in OPEN]
    scope = _Scope(session, rollout, strategy_of(rollout), tuple(opened), now)
    waits = col(Execution.retry_at) > now
    is_held = col(Device.penalty_until) > now
    where = [
        scope.queued,
        sql.or_(col(Execution.retry_at).is_(None), sql.not_(waits)),
        _STAYS,
        sql.or_(col(Device.penalty_until).is_(None), sql.not_(is_held)),
        sql.not_(_held_by_higher(rollout)),
        *_with_slots(scope, load),
    ]
    if among is not None:
        where.append(col(Execution.id).in_(among))
    found = session.connection().execute(
        sql.select(col(Execution.id), col(Execution.device_id))
        .join(Device, col(Device.id) == col(Execution.device_id))
        .where(*where)
        .order_by(col(Execution.position))
        .limit(CHUNK)
    )
    return _candidates(scope, {device: execution for execution, device in found})


def _tallied(
    state: ExecutionState, *, is_reverting: bool, is_excused: bool, was_given: bool
) -> str:
    """Return under which name of `Tally` an execution is counted. Pure."""
    under_way = "excused" if is_excused else "in_progress"
    names = {
        ExecutionState.QUEUED: "excused" if is_excused else "queued",
        ExecutionState.IN_PROGRESS: "reverting" if is_reverting else under_way,
        ExecutionState.ROLLED_BACK: "taken_back" if is_reverting else "rolled_back",
        ExecutionState.TIMED_OUT: "canceled" if is_excused else "timed_out",
        ExecutionState.REJECTED: "rejected" if was_given else "canceled",
    }
    return names.get(state, state.value.lower())


def _group_facts(
    rollout: Rollout, rows: Sequence[RolloutGroup], counted: Mapping[int, Tally]
) -> tuple[GroupFacts, ...]:
    aborted = rollout.abort or {}
    since: Mapping[str, Mapping[str, int]] = aborted.get("since", {})
    going_back: Collection[int] = aborted.get("going_back", ())
    return tuple(
        GroupFacts(
            number=row.number,
            state=GroupState(row.state),
            tally=counted.get(row.number, Tally()),
            soak_until=row.soak_until,
            verdict=Verdict(row.verdict["verdict"]) if row.verdict else None,
            is_promoted=row.promoted_at is not None,
            since=Tally(**since.get(str(row.number), {})),
            goes_back=row.number in going_back,
        )
        for row in rows
    )


def _census(scope: _Scope) -> _Census:
    any_of, now = sql.func.max, scope.now
    deadline, retry, penalty = (
        col(Execution.deadline_at),
        col(Execution.retry_at),
        col(Device.penalty_until),
    )
    row = (
        scope.session.connection()
        .execute(
            sql.select(
                any_of(_flag(sql.not_(_STAYS))),
                any_of(_flag(RETURNED & _STAYS)),
                any_of(_flag((deadline <= now) & _STAYS)),
                sql.func.min(sql.case((deadline > now, deadline))),
                sql.func.min(sql.case((scope.queued & (retry > now), retry))),
                sql.func.min(sql.case((scope.queued & (penalty > now), penalty))),
                sql.func.min(sql.case((scope.watched, _SEEN))),
            )
            .select_from(_TABLES["execution"])
            .join(Device, col(Device.id) == col(Execution.device_id))
            .where(scope.unfinished)
        )
        .one()
    )
    removed, returned, overdue, next_deadline, next_retry, next_penalty, heard_first = row
    return _Census(
        bool(removed),
        bool(returned),
        bool(overdue),
        next_deadline,
        next_retry,
        next_penalty,
        heard_first if scope.grace else None,
    )


def silent(rollout: Rollout, now: datetime) -> sql.ColumnElement[bool]:
    """Return which executions, of those that are not final, a silent device may excuse."""
    grace = timedelta(seconds=strategy_of(rollout).deadlines.offline_grace_s)
    return sql.and_(
        col(Execution.excused_at).is_(None),
        col(Execution.is_reverting).is_(sql.false()),
        _silent_since(now - grace),
    )


def _silent_since(moment: datetime) -> sql.ColumnElement[bool]:
    return moment >= _SEEN


def _flag(condition: sql.ColumnElement[bool]) -> sql.ColumnElement[int]:
    return sql.case((condition, 1), else_=0)


def _listed(scope: _Scope, which: sql.ColumnElement[bool]) -> tuple[str, ...]:
    found = scope.session.connection().execute(
        sql.select(col(Execution.id))
        .join(Device, col(Device.id) == col(Execution.device_id))
        .where(which)
        .order_by(col(Execution.position))
        .limit(CHUNK)
    )
    return tuple(found.scalars())


def to_end(rollout: Rollout, rows: Sequence[RolloutGroup], now: datetime) -> Any:
    """Return which unfinished executions are to end unjudged; None: none are."""
    forward = col(Execution.is_reverting).is_(sql.false())
    if rollout.state in ENDING:
        return forward
    which: list[sql.ColumnElement[bool]] = []
    in_error = [row.number for row in rows if row.state == GroupState.ERROR]
    if in_error:
        which.append(col(Execution.group_number).in_(in_error))
    ends_at = strategy_of(rollout).ends_at
    if rollout.state == RolloutState.RUNNING and 0 < ends_at <= now.timestamp():
        which.append(col(Execution.state) == ExecutionState.QUEUED.value)
    return sql.and_(forward, sql.or_(*which)) if which else None


def _to_end(scope: _Scope, rows: Sequence[RolloutGroup]) -> tuple[str, ...]:
    which = to_end(scope.rollout, rows, scope.now)
    return () if which is None else _listed(scope, scope.unfinished & which & _STAYS)


def to_revert(rollout: Rollout, rows: Sequence[RolloutGroup]) -> Any:
    """Return which executions are to be taken back: they succeeded; None: none are."""
    proved = sql.and_(
        col(Execution.rollout_id) == rollout.id,
        col(Execution.state) == ExecutionState.SUCCEEDED.value,
        col(Execution.started_at).is_not(None),
    )
    if rollout.state == RolloutState.ROLLING_BACK:
        return proved
    going_back: Collection[int] = (rollout.abort or {}).get("going_back", ())
    in_error = (row.number for row in rows if row.state == GroupState.ERROR)
    back = [number for number in in_error if number in going_back]
    return proved & col(Execution.group_number).in_(back) if back else None


def _proved(scope: _Scope, rows: Sequence[RolloutGroup]) -> tuple[str, ...]:
    which = to_revert(scope.rollout, rows)
    return () if which is None else _listed(scope, which & _STAYS)


def _joiners(scope: _Scope) -> tuple[Member, ...]:
    ends_at = scope.strategy.ends_at
    is_over = 0 < ends_at <= scope.now.timestamp()
    if scope.strategy.membership is not Membership.CONTINUOUS or is_over:
        return ()
    target = target_from(scope.rollout.target)
    ids = targets.outside(scope.session, target, scope.rollout.id, CHUNK)
    if not ids:
        return ()
    return tuple(targets.grouped(scope.session, Target(devices=ids), scope.strategy))


def _wakes_at(scope: _Scope, census: _Census) -> datetime | None:
    falls_silent = None if census.heard_first is None else census.heard_first + scope.grace
    times = (census.next_deadline, census.next_retry, census.next_penalty, falls_silent)
    return min((one for one in times if one is not None and one > scope.now), default=None)


def _held_by_higher(rollout: Rollout) -> sql.ColumnElement[bool]:
    """Tell whether a rollout of higher priority is under way on the device under the alias."""
    return sql.exists(
        sql.select(sql.literal(1))
        .select_from(_OTHER.join(_OTHERS, _OTHERS.c.id == _OTHER.c.rollout_id))
        .where(
            _OTHER.c.device_id == col(Execution.device_id),
            _OTHER.c.state == ExecutionState.IN_PROGRESS.value,
            _OTHERS.c.alias == rollout.alias,
            _OTHERS.c.priority > rollout.priority,
        )
    )


def _with_slots(scope: _Scope, load: Load) -> list[sql.ColumnElement[bool]]:
    """Return the conditions that a budget still has a slot for the device."""
    conditions: list[sql.ColumnElement[bool]] = []
    for label, values in budget.exhausted(scope.strategy, load).items():
        of_label = sql.select(col(DeviceLabel.device_id)).where(col(DeviceLabel.key) == label)
        named = sorted(values - {""})
        if named:
            full = of_label.where(col(DeviceLabel.value).in_(named))
            conditions.append(col(Execution.device_id).not_in(full))
        if "" in values:
            labelled = of_label.where(col(DeviceLabel.value) != "")
            conditions.append(col(Execution.device_id).in_(labelled))
    return conditions


def _candidates(scope: _Scope, by_device: Mapping[str, str]) -> tuple[Candidate, ...]:
    labels = {one.label for one in scope.strategy.budgets}
    if not labels or scope.strategy.override:
        return tuple(Candidate(execution) for execution in by_device.values())
    rows = scope.session.connection().execute(
        sql.select(col(DeviceLabel.device_id), col(DeviceLabel.key), col(DeviceLabel.value)).where(
            col(DeviceLabel.device_id).in_(by_device), col(DeviceLabel.key).in_(labels)
        )
    )
    said: dict[str, dict[str, str]] = {}
    for device, key, value in rows:
        said.setdefault(device, {})[key] = value
    down = unavailable.among(scope.session, tuple(by_device))
    return tuple(
        Candidate(execution, said.get(device, {}), device in down)
        for device, execution in by_device.items()
    )
