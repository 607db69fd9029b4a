"""Carrying out what the planner decides: one decision, one transaction.

Being killed between any two statements is an ordinary path: what was not committed did not happen
and is decided again; what was committed is found in the rows and not done again. Messages leave
after the commit; a lost one is sent again when the device shows that it has an older assignment.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, assert_never

import sqlalchemy
from sprat_proto.states import ExecutionState, ReasonCode, RolloutState
from sprat_proto.v1 import link_pb2
from sqlmodel import Session, col, func, select

from sprat_controller.audit.tags import Tag
from sprat_controller.rollout import assign, planner, targets
from sprat_controller.rollout.phases import ExecutionEvent, RolloutEvent
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import (
    UNFINISHED,
    By,
    Run,
    find_runs,
    hold,
    move_execution,
    move_rollout,
)
from sprat_controller.rollout.requests import target_from
from sprat_controller.schedule.leases import Lease, Leases
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import BRIEF_PAUSE_MS, Database
from sprat_controller.store.tables import Device, Execution, Rollout

Push: TypeAlias = Callable[[str, link_pb2.ControllerMessage], None]
Messages: TypeAlias = dict[str, link_pb2.ControllerMessage]

# A rollout of a million devices in chunks of 100; more rounds than this is a bug, not a fleet.
MAX_ROUNDS: Final = 10_000


@dataclass(frozen=True)
class _Ending:
    """How the planner ends an execution."""

    event: ExecutionEvent
    reason: Reason


@dataclass(frozen=True)
class _Turn:
    """How the planner moves a rollout: only from `state`, where the decision was made."""

    state: RolloutState
    event: RolloutEvent
    tag: Tag
    actor: str
    moment: str | None  # the column that keeps when


_TURNS: Final[Mapping[type[planner.Decision], _Turn]] = {
    planner.StartRollout: _Turn(
        RolloutState.SCHEDULED, RolloutEvent.START, Tag.ROLLOUT_DUE, "schedule", "started_at"
    ),
    planner.RunRollout: _Turn(
        RolloutState.STARTING, RolloutEvent.STARTED, Tag.ROLLOUT_RUNNING, "planner", None
    ),
    planner.FinishRollout: _Turn(
        RolloutState.RUNNING, RolloutEvent.FINISH, Tag.ROLLOUT_FINISHED, "planner", "finished_at"
    ),
    planner.StopRollout: _Turn(
        RolloutState.STOPPING, RolloutEvent.STOPPED, Tag.ROLLOUT_ENDED, "planner", "finished_at"
    ),
}


class Runner:
    """Brings rollouts forward; any number of replicas may do it at once."""

    def __init__(self, database: Database, signer: Signer, push: Push, leases: Leases) -> None:
        """Run over `database`, have plans signed by `signer`, send them with `push`.

        What is due is claimed by `leases`.
        """
        self._database = database
        self._signer = signer
        self._push = push
        self._leases = leases

    def run_due(self, now: datetime) -> datetime | None:
        """Bring every rollout that is due as far as it goes at this moment.

        A rollout that fails is logged and tried again the next time; the others go on.

        Returns:
            When to look again because another replica works on one that is due; None: none does.
        """
        return self._leases.work_on_due(now, lambda lease: self._advance(lease, now))

    def _advance(self, lease: Lease, now: datetime) -> None:
        for _ in range(MAX_ROUNDS):
            decisions = self._decide(lease, now)
            if not decisions:
                return
            for decision in decisions:
                self._carry_out(lease, decision, now)
        raise RuntimeError(f"rollout {lease.id} is not at rest after {MAX_ROUNDS} rounds")

    def _decide(self, lease: Lease, now: datetime) -> list[planner.Decision]:
        """Return what is to be done; if nothing, keep when to ask again, and end the lease."""
        with self._held(lease) as session:
            rollout = hold(session, lease.id)
            if rollout is None:
                return []
            facts, unfinished = _facts(rollout), _unfinished(session, lease.id)
            decisions = planner.decide(facts, unfinished, now)
            if not decisions:
                rollout.due_at = planner.next_due(facts, unfinished, now)
                session.add(rollout)
                self._leases.give_back(session, lease)
            return decisions

    def _carry_out(self, lease: Lease, decision: planner.Decision, now: datetime) -> None:
        messages: Messages = {}
        with self._held(lease) as session:
            rollout = hold(session, lease.id)
            if rollout is not None:
                messages = self._apply(session, rollout, decision, now)
        for device_id, message in messages.items():
            self._push(device_id, message)

    @contextmanager
    def _held(self, lease: Lease) -> Generator[Session]:
        """Yield a transaction in which nobody else works on the rollout.

        Raises:
            LeaseLostError: Another replica took it over.
        """
        with self._database.transaction(pause_ms=BRIEF_PAUSE_MS) as session:
            self._leases.hold(session, lease)
            yield session

    def _apply(
        self, session: Session, rollout: Rollout, decision: planner.Decision, now: datetime
    ) -> Messages:
        match decision:
            case planner.Assign(executions):
                return self._assign(session, rollout, executions, now)
            case planner.TimeOut(executions):
                return self._end(session, executions, _overdue(rollout), now)
            case planner.Remove(executions):
                return self._end(session, executions, _REMOVED, now)
            case planner.Cancel(executions):
                is_denied = rollout.state == RolloutState.APPROVAL_DENIED
                return self._end(session, executions, _DENIED if is_denied else _STOPPED, now)
            case (
                planner.StartRollout()
                | planner.RunRollout()
                | planner.FinishRollout()
                | planner.StopRollout()
            ):
                _turn(session, rollout, _TURNS[type(decision)], now)
                return {}
            case _:
                assert_never(decision)

    def _assign(
        self, session: Session, rollout: Rollout, executions: Sequence[str], now: datetime
    ) -> Messages:
        """Give work to those that are still queued, as far as there is still room."""
        if rollout.state != RolloutState.RUNNING:
            return {}
        room = _room(session, rollout, len(executions))
        runs = [
            run
            for run in find_runs(session, executions[:room])
            if run.state is ExecutionState.QUEUED and run.digest is not None
        ]
        by = By(Tag.EXECUTION_DECIDED, "planner", now)
        runs = _still_in_scope(session, rollout, runs, by)
        deadline = now + timedelta(seconds=rollout.execution_timeout_s)
        times = {"started_at": now, "deadline_at": deadline}
        started = [
            run
            for run in runs
            if move_execution(session, run, ExecutionEvent.ASSIGN, by, changes=times)
        ]
        assign.supersede(session, started, rollout.alias, now)
        messages = {run.device_id: self._issue(session, rollout, run, now) for run in started}
        return {device_id: message for device_id, message in messages.items() if message}

    def _issue(
        self, session: Session, rollout: Rollout, run: Run, now: datetime
    ) -> link_pb2.ControllerMessage | None:
        assign.bind(
            session,
            assign.Binding(
                run.device_id, rollout.alias, run.digest or "", run.id, rollout.id, rollout.context
            ),
        )
        return assign.issue(session, self._signer, run.device_id, now)

    def _end(
        self, session: Session, executions: Sequence[str], ending: _Ending, now: datetime
    ) -> Messages:
        """End those that are not final; a device under way returns to what it ran before."""
        messages: Messages = {}
        by = By(Tag.EXECUTION_DECIDED, "planner", now)
        for run in find_runs(session, executions):
            if run.state.is_final:
                continue
            if move_execution(session, run, ending.event, by, reason=ending.reason) is None:
                continue
            message = assign.withdraw(session, self._signer, run, now, unasked=True)
            if message is not None:
                messages[run.device_id] = message
        return messages


_REMOVED: Final = _Ending(
    ExecutionEvent.REMOVE, Reason(ReasonCode.DEVICE_REMOVED, "the device was removed")
)
_OUT_OF_SCOPE: Final = Reason(
    ReasonCode.OUT_OF_SCOPE, "the device left the rollout's target before its turn came"
)
_STOPPED: Final = _Ending(
    ExecutionEvent.CANCEL, Reason(ReasonCode.STOPPED_BY_OPERATOR, "the rollout was stopped")
)

_DENIED: Final = _Ending(
    ExecutionEvent.CANCEL,
    Reason(ReasonCode.NOT_APPROVED, "the approval of the rollout was denied"),
)


def _overdue(rollout: Rollout) -> _Ending:
    return _Ending(
        ExecutionEvent.TIME_OUT,
        Reason(
            ReasonCode.DEADLINE_PASSED,
            f"not done within {rollout.execution_timeout_s} s of its assignment",
        ),
    )


def _turn(session: Session, rollout: Rollout, turn: _Turn, now: datetime) -> None:
    """Move the rollout unless somebody else moved it since the decision."""
    if rollout.state != turn.state:
        return
    moment: Mapping[str, Any] = {turn.moment: now} if turn.moment else {}
    move_rollout(session, rollout, turn.event, By(turn.tag, turn.actor, now), **moment)


def _facts(rollout: Rollout) -> planner.RolloutFacts:
    return planner.RolloutFacts(
        RolloutState(rollout.state), rollout.start_at, rollout.max_in_progress
    )


def _unfinished(session: Session, rollout_id: str) -> list[planner.ExecutionFacts]:
    rows = session.connection().execute(
        sqlalchemy.select(
            col(Execution.id),
            col(Execution.state),
            col(Execution.deadline_at),
            col(Device.revoked_at),
        )
        .join(Device, col(Device.id) == col(Execution.device_id))
        .where(col(Execution.rollout_id) == rollout_id, col(Execution.state).in_(UNFINISHED))
        .order_by(col(Execution.position))
    )
    return [
        planner.ExecutionFacts(found, ExecutionState(state), deadline, revoked is not None)
        for found, state, deadline, revoked in rows
    ]


def _still_in_scope(session: Session, rollout: Rollout, runs: Sequence[Run], by: By) -> list[Run]:
    """Return the runs whose devices are still in the target; the others are canceled.

    Membership counts when a plan is signed, not only when the rollout was created: a device that
    was moved elsewhere gets nothing by an older decision.
    """
    target = target_from(rollout.target)
    inside = targets.members(session, target, [run.device_id for run in runs])
    for run in runs:
        if run.device_id not in inside:
            move_execution(session, run, ExecutionEvent.CANCEL, by, reason=_OUT_OF_SCOPE)
    return [run for run in runs if run.device_id in inside]


def _room(session: Session, rollout: Rollout, wanted: int) -> int:
    if not rollout.max_in_progress:
        return wanted
    busy = session.exec(
        select(func.count())
        .select_from(Execution)
        .where(
            col(Execution.rollout_id) == rollout.id,
            col(Execution.state) == ExecutionState.IN_PROGRESS.value,
        )
    ).one()
    return max(0, rollout.max_in_progress - busy)
