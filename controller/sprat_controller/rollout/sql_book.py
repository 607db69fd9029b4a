"""Carrying out what the planner decides in the rows: one decision, one transaction.

Each begins by holding the lease and the rollout's row, and looks at the states again: a decision on
old facts, or the same once more, changes nothing. Messages leave after the commit; a lost one is
sent again when the device shows that it has an older assignment.

While a rollout is looked at, its `due_at` is `LOOKED_AT`: it stays due if this process is killed,
and whoever wakes it meanwhile replaces that. So `rest` sees that there is more to do.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, assert_never

import msgspec
import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step
from sprat_proto.v1 import link_pb2
from sqlmodel import Session, col

from sprat_controller.audit import changes, log
from sprat_controller.rollout import (
    abort_said,
    assign,
    authors,
    budget,
    deadlines,
    facts,
    four_eyes,
    outcomes,
    snapshot,
    sql_facts,
    targets,
    unavailable,
)
from sprat_controller.rollout.approver_policy import PolicySource
from sprat_controller.rollout.authors import Standing as AuthorStanding
from sprat_controller.rollout.deadlines import Standing
from sprat_controller.rollout.gates import from_rows as gate_rows
from sprat_controller.rollout.gates import judgement
from sprat_controller.rollout.grouping import Placed
from sprat_controller.rollout.phases import (
    GROUP,
    ExecutionEvent,
    GroupEvent,
    RolloutEvent,
    allowing,
)
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import (
    UNFINISHED,
    By,
    Run,
    find_runs,
    hold,
    move_execution,
    move_group,
    move_rollout,
    strategy_of,
)
from sprat_controller.rollout.requests import target_from
from sprat_controller.rollout.snapshot import NewId
from sprat_controller.rollout.strategy import AbortAction, Extent, Membership
from sprat_controller.schedule.leases import Lease, Leases
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import BRIEF_PAUSE_MS, Database
from sprat_controller.store.tables import Device, Execution, Rollout, RolloutGroup

Push: TypeAlias = Callable[[str, link_pb2.ControllerMessage], None]
Messages: TypeAlias = dict[str, link_pb2.ControllerMessage]

_OfExecutions: TypeAlias = (
    facts.Assign
    | facts.TimeOut
    | facts.Remove
    | facts.Cancel
    | facts.Revert
    | facts.Excuse
    | facts.Readmit
)
# Nobody wakes anything at this moment.
LOOKED_AT: Final = datetime(1970, 1, 1, tzinfo=UTC)
PLANNER: Final = assign.ACTOR


@dataclass(frozen=True)
class Around:
    """What all books of a controller share.

    `standing`: what who asked for a rollout may do by the time it starts; None: it is not asked.
    """

    database: Database
    signer: Signer
    push: Push
    leases: Leases
    new_id: NewId
    policy: PolicySource
    standing: AuthorStanding | None = None

    def objection(self, session: Session, rollout: Rollout) -> Reason | None:
        """Return why a rollout that is SCHEDULED is not to start by itself; None: it may."""
        return authors.objection(session, rollout, self.policy(session), self.standing)


@dataclass(frozen=True)
class _Turn:
    """How the planner moves a rollout: only from `state`, where the decision was made."""

    state: RolloutState
    event: RolloutEvent
    tag: Tag
    actor: str
    moment: str | None  # the column that keeps when
    is_end: bool = False  # only once nothing is unfinished


_TURNS: Final[Mapping[type[facts.Decision], _Turn]] = {
    facts.StartRollout: _Turn(
        RolloutState.SCHEDULED, RolloutEvent.START, Tag.ROLLOUT_DUE, "schedule", "started_at"
    ),
    facts.RunRollout: _Turn(
        RolloutState.STARTING, RolloutEvent.STARTED, Tag.ROLLOUT_RUNNING, PLANNER, None
    ),
    facts.FinishRollout: _Turn(
        RolloutState.RUNNING,
        RolloutEvent.FINISH,
        Tag.ROLLOUT_FINISHED,
        PLANNER,
        "finished_at",
        is_end=True,
    ),
    facts.StopRollout: _Turn(
        RolloutState.STOPPING,
        RolloutEvent.STOPPED,
        Tag.ROLLOUT_ENDED,
        PLANNER,
        "finished_at",
        is_end=True,
    ),
    facts.EndRollback: _Turn(
        RolloutState.ROLLING_BACK,
        RolloutEvent.ROLLED_BACK,
        Tag.ROLLOUT_ENDED,
        PLANNER,
        "finished_at",
        is_end=True,
    ),
}
# What an abort does to the rollout itself.
_ABORTS: Final[Mapping[AbortAction, RolloutEvent]] = {
    AbortAction.PAUSE: RolloutEvent.PAUSE,
    AbortAction.CANCEL: RolloutEvent.STOP,
    AbortAction.ROLLBACK: RolloutEvent.ROLL_BACK,
}
_REMOVED: Final = Reason(ReasonCode.DEVICE_REMOVED, "the device was removed")
_OUT_OF_SCOPE: Final = Reason(
    ReasonCode.OUT_OF_SCOPE, "the device left the rollout's target before its turn came"
)
_STOPPED: Final = Reason(ReasonCode.STOPPED_BY_OPERATOR, "the rollout was stopped")
_DENIED: Final = Reason(ReasonCode.NOT_APPROVED, "the approval of the rollout was denied")
_ABORTED: Final = Reason(ReasonCode.ABORTED, "an abort criterion of the rollout was met")
_TAKEN_BACK: Final = Reason(ReasonCode.ROLLED_BACK_BY_ROLLOUT, "the rollout was rolled back")
_REPLACED: Final = Reason(
    ReasonCode.ROLLED_BACK_BY_ROLLOUT,
    "the rollout was rolled back; a newer one had taken its place on the device, and keeps it",
)
_OVER: Final = Reason(ReasonCode.DEADLINE_PASSED, "the rollout ended before its turn came")

# What an abort keeps of the one before: what counted till a person resumed, what is going back.
_KEPT: Final = ("since", "going_back")
_BECAUSE: Final[Mapping[RolloutState, Reason]] = {
    RolloutState.STOPPING: _STOPPED,
    RolloutState.APPROVAL_DENIED: _DENIED,
    RolloutState.ROLLING_BACK: _TAKEN_BACK,
}


def _stopped(abort: Mapping[str, Any] | None) -> Reason:
    """Return why what is unfinished ends: a person said so, also after an abort, or an abort."""
    by = abort_said.stopped_by(abort)
    if by:
        return replace(_STOPPED, message=f"the rollout was stopped by {by}")
    return _ABORTED if abort_said.criterion(abort) else _STOPPED


class SqlBook:
    """One rollout's rows in the database, under a lease."""

    def __init__(self, around: Around, lease: Lease) -> None:
        """Open the rollout that was claimed with `lease`."""
        self._around = around
        self._lease = lease

    def read(self, now: datetime) -> facts.Facts | None:
        """See `Book.read`."""
        with self._held() as session:
            rollout = hold(session, self._lease.id)
            if rollout is None:
                return None
            rollout.due_at = LOOKED_AT
            session.add(rollout)
            session.flush()
            if rollout.state == RolloutState.RUNNING:
                _judge_gates(session, rollout)
            found = sql_facts.read(session, rollout, now)
            if _is_due(rollout, now):
                found = replace(found, objection=self._around.objection(session, rollout))
            return found

    def carry_out(self, decision: facts.Decision, now: datetime) -> None:
        """See `Book.carry_out`."""
        messages: Messages = {}
        with self._held() as session:
            rollout = hold(session, self._lease.id)
            if rollout is not None:
                page = _Page(session, self._around, rollout, now)
                messages = page.apply(decision)
        for device_id, message in messages.items():
            self._around.push(device_id, message)

    def rest(self, due_at: datetime | None) -> None:
        """See `Book.rest`; what was woken meanwhile stays due."""
        untouched = (col(Rollout.id) == self._lease.id) & (col(Rollout.due_at) == LOOKED_AT)
        with self._held() as session:
            statement = sqlalchemy.update(Rollout).where(untouched).values(due_at=due_at)
            session.connection().execute(statement)
            self._around.leases.give_back(session, self._lease)

    @contextmanager
    def _held(self) -> Generator[Session]:
        """Yield a transaction in which nobody else works on the rollout.

        Raises:
            LeaseLostError: Another replica took it over.
        """
        around = self._around
        with around.database.transaction(pause_ms=BRIEF_PAUSE_MS) as session:
            around.leases.hold(session, self._lease)
            yield session


@dataclass(frozen=True)
class _Page:
    """A rollout that is held, inside the transaction of one decision."""

    session: Session
    around: Around
    rollout: Rollout
    now: datetime

    @property
    def by(self) -> By:
        return By(Tag.EXECUTION_DECIDED, PLANNER, self.now)

    def apply(self, decision: facts.Decision) -> Messages:
        """Do what was decided, as far as it still may be."""
        if isinstance(decision, _OfExecutions):
            return self._of_executions(decision)
        match decision:
            case facts.StartRollout() | facts.HoldBack():
                self._come_due(decision)
            case facts.Join(placed):
                self._join(placed)
            case facts.Abort():
                self._abort(decision)
            case facts.FailGate(group):
                self._fail_gate(group)
            case facts.StartGroup(number):
                self._turn_group(number, GroupEvent.START, started_at=self.now)
            case facts.SoakGroup(number, until):
                self._turn_group(number, GroupEvent.SOAK, soak_until=until)
            case facts.FinishGroup(number):
                self._turn_group(number, GroupEvent.FINISH, finished_at=self.now)
            case facts.EndRollback(group) if group is not None:
                self._end_group(group)
            case _:
                self._turn(_TURNS[type(decision)])
        return {}

    def _of_executions(self, decision: _OfExecutions) -> Messages:
        match decision:
            case facts.Assign(executions):
                return self._assign(executions)
            case facts.TimeOut(executions):
                return self._time_out(executions)
            case facts.Remove(executions):
                return self._remove(executions)
            case facts.Cancel(executions):
                return self._cancel(executions)
            case facts.Revert(executions):
                return self._revert(executions)
            case facts.Excuse(executions):
                self._excuse(executions)
            case facts.Readmit(executions):
                self._readmit(executions)
            case _:
                assert_never(decision)
        return {}

    # What happens to the rollout and its groups

    def _turn(self, turn: _Turn) -> None:
        """Move the rollout unless somebody else moved it since the decision."""
        if self.rollout.state != turn.state or (turn.is_end and self._is_unfinished()):
            return
        moment: Mapping[str, Any] = {turn.moment: self.now} if turn.moment else {}
        by = By(turn.tag, turn.actor, self.now)
        move_rollout(self.session, self.rollout, turn.event, by, **moment)

    def _come_due(self, decision: facts.StartRollout | facts.HoldBack) -> None:
        """Start it, or leave it to a person, if what its authors may is still as it was decided."""
        if not _is_due(self.rollout, self.now):
            return
        reason = self.around.objection(self.session, self.rollout)
        if reason is not None and isinstance(decision, facts.HoldBack):
            self._hold_back(reason)
        elif reason is None and isinstance(decision, facts.StartRollout):
            self._turn(_TURNS[facts.StartRollout])

    def _hold_back(self, reason: Reason) -> None:
        start_at = self.rollout.start_at
        move_rollout(
            self.session,
            self.rollout,
            RolloutEvent.HOLD_BACK,
            By(Tag.ROLLOUT_HELD_BACK, PLANNER, self.now),
            reason=str(reason.code),
            said={"why": reason.message, "start_at": start_at.isoformat() if start_at else ""},
            start_at=None,
            abort={abort_said.HELD_BACK: reason.as_json()},
        )

    def _turn_group(self, number: int, event: GroupEvent, **changes: object) -> None:
        row = self._group(number)
        if self.rollout.state == RolloutState.RUNNING and row.state in allowing(GROUP, event):
            by = By(Tag.ROLLOUT_GROUP_MOVED, PLANNER, self.now)
            move_group(self.session, row, event, by, **changes)

    def _end_group(self, number: int) -> None:
        row = self._group(number)
        if row.state == GroupState.ERROR and not self._is_unfinished(number):
            by = By(Tag.ROLLOUT_GROUP_MOVED, PLANNER, self.now)
            move_group(self.session, row, GroupEvent.ROLLED_BACK, by, finished_at=self.now)

    def _abort(self, decision: facts.Abort) -> None:
        """Hold, stop or take back; from here on nothing starts."""
        rollout, criterion = self.rollout, decision.criterion
        if rollout.state != RolloutState.RUNNING:
            return
        before: Mapping[str, Any] = rollout.abort or {}
        abort: dict[str, Any] = {
            **{name: before[name] for name in _KEPT if name in before},
            "criterion": msgspec.to_builtins(criterion),
            "group": decision.group,
            "failures": decision.failures,
            "judged": decision.judged,
            **({"miss": True} if decision.is_miss else {}),
            "at": self.now.isoformat(),
        }
        event, by = _ABORTS[criterion.action], By(Tag.ROLLOUT_ABORTED, PLANNER, self.now)
        if criterion.acts_on is Extent.GROUP and criterion.action is not AbortAction.PAUSE:
            row = self._group(decision.group)
            if row.state not in sql_facts.OPEN:
                return
            move_group(self.session, row, GroupEvent.ABORT, by)
            event = RolloutEvent.PAUSE
            if criterion.action is AbortAction.ROLLBACK:
                abort["going_back"] = [*before.get("going_back", ()), decision.group]
        said = {
            "criterion": abort_said.criterion(abort),
            "group": str(decision.group),
            "action": f"{criterion.action} {criterion.acts_on}",
        }
        move_rollout(self.session, rollout, event, by, said=said, abort=abort)

    def _fail_gate(self, group: int) -> None:
        rollout = self.rollout
        if rollout.state != RolloutState.RUNNING:
            return
        before: Mapping[str, Any] = rollout.abort or {}
        kept = {name: before[name] for name in _KEPT if name in before}
        abort = {**kept, "gate": "FAIL", "group": group, "at": self.now.isoformat()}
        judged = judgement.from_json(self._group(group).verdict or {"verdict": facts.Verdict.FAIL})
        by = By(Tag.ROLLOUT_ABORTED, PLANNER, self.now)
        said = {"gate": "FAIL", "group": str(group), "found": judged.said()}
        move_rollout(self.session, rollout, RolloutEvent.PAUSE, by, said=said, abort=abort)

    def _group(self, number: int) -> RolloutGroup:
        return sql_facts.groups(self.session, self.rollout.id)[number]

    def _is_unfinished(self, group: int | None = None) -> bool:
        which = (col(Execution.rollout_id) == self.rollout.id) & col(Execution.state).in_(
            UNFINISHED
        )
        if group is not None:
            which &= col(Execution.group_number) == group
        one = sqlalchemy.select(col(Execution.id)).where(which).limit(1)
        return self.session.connection().execute(one).first() is not None

    # What happens to executions

    def _assign(self, executions: Sequence[str]) -> Messages:
        """Give work to those that are still queued, as far as there is still room."""
        session, rollout, now = self.session, self.rollout, self.now
        if rollout.state != RolloutState.RUNNING:
            return {}
        strategy = strategy_of(rollout)
        load = unavailable.load(session, rollout.id, strategy, now)
        queue = sql_facts.startable(session, rollout, now, load, among=executions)
        runs = self._still_in_scope(find_runs(session, budget.admit(strategy, load, queue).starts))
        runs = assign.supersede(session, rollout, runs, now)
        times = outcomes.started(rollout, now)
        moved = [
            run
            for run in runs
            if move_execution(session, run, ExecutionEvent.ASSIGN, self.by, changes=times)
        ]
        messages = {run.device_id: self._issue(run) for run in moved}
        return {device_id: message for device_id, message in messages.items() if message}

    def _issue(self, run: Run) -> link_pb2.ControllerMessage | None:
        rollout = self.rollout
        assign.bind(
            self.session,
            assign.Binding(
                run.device_id, rollout.alias, run.digest or "", run.id, rollout.id, rollout.context
            ),
        )
        return assign.issue(self.session, self.around.signer, run.device_id, self.now)

    def _still_in_scope(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs whose devices are still in the target; the others are canceled.

        Membership counts when a plan is signed, not only when the rollout was created: a device
        that was moved elsewhere gets nothing by an older decision.
        """
        target = target_from(self.rollout.target)
        inside = targets.members(self.session, target, [run.device_id for run in runs])
        for run in runs:
            if run.device_id not in inside:
                move_execution(
                    self.session, run, ExecutionEvent.CANCEL, self.by, reason=_OUT_OF_SCOPE
                )
        return [run for run in runs if run.device_id in inside]

    def _time_out(self, executions: Sequence[str]) -> Messages:
        """End those past their deadline, or have them tried again."""
        runs = self._unfinished(executions)
        overdue = [run for run in runs if run.deadline_at and run.deadline_at <= self.now]
        return self._ended(overdue, self._miss)

    def _miss(self, run: Run) -> ExecutionState | None:
        rollout, standing, event = self.rollout, run.standing, ExecutionEvent.TIME_OUT
        strategy = strategy_of(rollout)
        if run.excused_at is not None:
            since = run.excused_at.isoformat(timespec="seconds")
            reason = Reason(ReasonCode.OFFLINE, f"the device was not heard of: offline at {since}")
            return move_execution(self.session, run, event, self.by, reason=reason)
        if standing is None:
            return None
        missed = deadlines.due(strategy, standing).code
        if missed is ReasonCode.NO_PROGRESS and not self._is_online(run.device_id):
            # It cannot tell how far it is: only the whole counts until it does.
            whole = deadlines.due(strategy, Standing(standing.started_at))
            if whole.at > self.now:
                self._change(run, deadline_at=whole.at)
                return None
            missed = whole.code
        within = f"{strategy.deadlines.execution_s} s of its assignment"
        words = f"not done within {within}"
        if missed is ReasonCode.NO_PROGRESS:
            words = f"no end of {run.step} within its deadline"
        reason = Reason(missed, words)
        return outcomes.fail(self.session, rollout, run, event, self.by, reason=reason)

    def _remove(self, executions: Sequence[str]) -> Messages:
        """End those of devices that were removed."""
        runs = self._unfinished(executions)
        gone = sqlalchemy.select(col(Device.id)).where(
            col(Device.id).in_([run.device_id for run in runs]),
            col(Device.revoked_at).is_not(None),
        )
        removed = set(self.session.connection().execute(gone).scalars())
        leaving = [run for run in runs if run.device_id in removed]
        return self._ended(leaving, self._mover(ExecutionEvent.REMOVE, _REMOVED))

    def _cancel(self, executions: Sequence[str]) -> Messages:
        """End those that are to end unjudged, if they still are."""
        rows = sql_facts.groups(self.session, self.rollout.id)
        which = sql_facts.to_end(self.rollout, rows, self.now)
        if which is None:
            return {}
        reason = _BECAUSE.get(RolloutState(self.rollout.state))
        if reason is None:
            in_error = any(row.state == GroupState.ERROR for row in rows)
            reason = _ABORTED if in_error else _OVER
        elif self.rollout.state == RolloutState.STOPPING:
            reason = _stopped(self.rollout.abort)
        runs = self._unfinished(executions, which)
        return self._ended(runs, self._mover(ExecutionEvent.CANCEL, reason))

    def _revert(self, executions: Sequence[str]) -> Messages:
        """Have devices go back from what had succeeded to what they proved before it.

        Where a newer rollout is at work, or was, the device is told nothing: what that one brought
        stays, and if it goes back it goes past what is taken back here.
        """
        rows = sql_facts.groups(self.session, self.rollout.id)
        which = sql_facts.to_revert(self.rollout, rows)
        if which is None:
            return {}
        back = Standing(self.now, is_reverting=True)
        changes: dict[str, Any] = {
            "is_reverting": True,
            "step": Step.ROLLING_BACK,
            "step_since": self.now,
            "deadline_at": deadlines.due(strategy_of(self.rollout), back).at,
            "finished_at": None,
        }
        runs = self._those(executions, which)
        kept = assign.bound_to(self.session, self.rollout, [run.device_id for run in runs])
        mine = [run for run in runs if run.device_id in kept]
        replaced = self._mover(ExecutionEvent.ROLL_BACK, _REPLACED, {"is_reverting": True})
        for run in runs:
            if run.device_id not in kept:
                replaced(run)
        assign.end_ways_back(self.session, self.rollout, kept, self.now)
        return self._ended(mine, self._mover(ExecutionEvent.REVERT, _TAKEN_BACK, changes))

    def _ended(self, runs: Sequence[Run], end: Callable[[Run], ExecutionState | None]) -> Messages:
        """Have each end; a device that was under way returns to what it ran before."""
        messages: Messages = {}
        for run in runs:
            was_back = run.is_reverting
            if end(run) is None or was_back:
                continue
            message = assign.withdraw(self.session, self.around.signer, run, self.now, runs=None)
            if message is not None:
                messages[run.device_id] = message
        return messages

    def _mover(
        self, event: ExecutionEvent, reason: Reason, changes: Mapping[str, Any] | None = None
    ) -> Callable[[Run], ExecutionState | None]:
        return lambda run: move_execution(
            self.session, run, event, self.by, reason=reason, changes=changes
        )

    def _excuse(self, executions: Sequence[str]) -> None:
        strategy = strategy_of(self.rollout)
        for run in self._unfinished(executions, sql_facts.silent(self.rollout, self.now)):
            until = deadlines.excused_until(strategy, self.now, run.standing)
            self._change(run, excused_at=self.now, deadline_at=until)
            self._note(run, Tag.EXECUTION_EXCUSED, "counted", "excused")

    def _readmit(self, executions: Sequence[str]) -> None:
        for run in self._unfinished(executions, sql_facts.RETURNED):
            self._change(run, **outcomes.readmitted(self.rollout, run, self.now))
            self._note(run, Tag.EXECUTION_READMITTED, "excused", "counted")

    def _join(self, placed: Sequence[Placed]) -> None:
        rollout = self.rollout
        if rollout.state != RolloutState.RUNNING:
            return
        if strategy_of(rollout).membership is not Membership.CONTINUOUS:
            return
        # A group that an edit left out since the decision: whoever was to join it is decided anew.
        groups = len(strategy_of(rollout).groups)
        placed = [one for one in placed if one.group < groups]
        enforcing = four_eyes.enforcing(self.around.policy(self.session))
        joined = snapshot.join(
            self.session, rollout, placed, self.now, self.around.new_id, enforcing=enforcing
        )
        if joined:
            log.append(
                self.session,
                Tag.ROLLOUT_JOINED,
                at=self.now,
                actor=PLANNER,
                subject=f"rollout/{rollout.id}",
                after=changes.digest(list(joined)),
                detail={"devices": list(joined)},
            )

    def _is_online(self, device_id: str) -> bool:
        found = sqlalchemy.select(col(Device.online)).where(col(Device.id) == device_id)
        return bool(self.session.connection().execute(found).scalar())

    def _change(self, run: Run, **values: object) -> None:
        """Set columns of an execution that stays in its state."""
        same = (col(Execution.id) == run.id) & (col(Execution.state) == run.state.value)
        statement = sqlalchemy.update(Execution).where(same).values(**values)
        self.session.connection().execute(statement)

    def _note(self, run: Run, tag: Tag, before: str, after: str) -> None:
        """Write down whether the execution of a silent device counts."""
        log.append(
            self.session,
            tag,
            at=self.now,
            actor=PLANNER,
            subject=f"execution/{run.id}",
            before=before,
            after=after,
            detail={"rollout": run.rollout_id, "device": run.device_id},
        )

    def _unfinished(
        self, executions: Sequence[str], which: sqlalchemy.ColumnElement[bool] | None = None
    ) -> list[Run]:
        """Return those of the executions that are not final, and of these only `which`."""
        is_open = col(Execution.state).in_(UNFINISHED)
        return self._those(executions, is_open if which is None else is_open & which)

    def _those(self, executions: Sequence[str], which: sqlalchemy.ColumnElement[bool]) -> list[Run]:
        """Return those of the executions that are so still, in order of position."""
        found = (
            sqlalchemy.select(col(Execution.id))
            .join(Device, col(Device.id) == col(Execution.device_id))
            .where(
                col(Execution.id).in_(executions),
                col(Execution.rollout_id) == self.rollout.id,
                which,
            )
        )
        ids = self.session.connection().execute(found).scalars().all()
        return find_runs(self.session, ids)


def _is_due(rollout: Rollout, now: datetime) -> bool:
    """Tell whether it is to start by itself, and its time has come."""
    start_at = rollout.start_at
    return rollout.state == RolloutState.SCHEDULED and start_at is not None and start_at <= now


def _judge_gates(session: Session, rollout: Rollout) -> None:
    """Have the gates of groups that run or soak say what they see now."""
    asked = strategy_of(rollout).groups
    under_way = {GroupState.RUNNING.value, GroupState.SOAKING.value}
    gated = {
        row.number: gate
        for row in sql_facts.groups(session, rollout.id)
        if row.state in under_way and (gate := asked[row.number].gate) is not None
    }
    gate_rows.rejudge(session, rollout.id, gated)
