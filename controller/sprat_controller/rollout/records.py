"""Guarded changes to the rows of rollouts and executions, each with its audit record.

A rollout's row is held (`hold`) while its state is read and changed; the UPDATE of an execution
names the state that it starts from and tells whether it found it. So doing something twice, or on
two replicas, changes nothing the second time. Whoever changes executions holds their rollout first,
so that no wake-up is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, GroupState, RolloutState, Step
from sqlmodel import Session, col, select

from sprat_controller.audit import log
from sprat_controller.rollout import attempts, frozen_strategy
from sprat_controller.rollout.deadlines import Standing
from sprat_controller.rollout.phases import (
    EXECUTION,
    GROUP,
    ROLLOUT,
    ExecutionEvent,
    GroupEvent,
    RolloutEvent,
    apply,
)
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import Execution, Rollout, RolloutGroup

UNFINISHED = (ExecutionState.QUEUED.value, ExecutionState.IN_PROGRESS.value)


_RUNS: Final = (
    sqlalchemy.select(
        col(Execution.id),
        col(Execution.rollout_id),
        col(Execution.device_id),
        col(Execution.state),
        col(Execution.digest),
        col(Execution.created_at),
        col(Execution.attempt),
        col(Execution.group_number),
        col(Execution.step),
        col(Execution.started_at),
        col(Execution.step_since),
        col(Execution.updated_at),
        col(Execution.deadline_at),
        col(Execution.excused_at),
        col(Execution.tries),
        col(Execution.is_reverting),
    )
    .where(col(Execution.id).in_(sqlalchemy.bindparam("ids", expanding=True)))
    .order_by(col(Execution.position))
)


@dataclass(frozen=True)
class By:
    """Who changes something, when, and as what it stands in the audit log."""

    tag: Tag
    actor: str
    now: datetime


@dataclass(frozen=True)
class Run:
    """One execution as those who change it need it."""

    id: str
    rollout_id: str
    device_id: str
    state: ExecutionState
    digest: str | None
    created_at: datetime
    attempt: int
    group_number: int
    step: Step | None
    started_at: datetime | None
    step_since: datetime | None
    updated_at: datetime
    deadline_at: datetime | None
    excused_at: datetime | None
    tries: int
    is_reverting: bool

    @property
    def name(self) -> str:
        """By which the device knows it now."""
        name = attempts.name_of(self.id, self.attempt)
        return attempts.way_back(name) if self.is_reverting else name

    @property
    def standing(self) -> Standing | None:
        """How far it is, for its deadlines; None: it is not under way."""
        if self.state is not ExecutionState.IN_PROGRESS or self.started_at is None:
            return None
        if self.is_reverting:
            return Standing(self.step_since or self.started_at, is_reverting=True)
        told_at = None if self.step is None else self.updated_at
        return Standing(self.started_at, self.step, self.step_since, told_at)


def hold(session: Session, rollout_id: str) -> Rollout | None:
    """Return the rollout, its row locked until the end of the transaction."""
    statement = (
        select(Rollout)
        .where(col(Rollout.id) == rollout_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return session.exec(statement).first()


def strategy_of(rollout: Rollout) -> Strategy:
    """Return how the rollout proceeds."""
    if rollout.strategy is None:
        return frozen_strategy.of_old(rollout.max_in_progress, rollout.execution_timeout_s)
    return frozen_strategy.from_json(rollout.strategy)


def move_rollout(
    session: Session,
    rollout: Rollout,
    event: RolloutEvent,
    by: By,
    *,
    said: Mapping[str, str] | None = None,
    told: Callable[[Rollout], str] | None = None,
    reason: str | None = None,
    **changes: object,
) -> RolloutState:
    """Apply an event to a rollout that is held; it is looked at again at once.

    Args:
        session: A transaction.
        rollout: The rollout.
        event: What happens to it.
        by: Who, when, as what.
        said: What else is to stand in the audit log.
        told: What the log has as `before` and `after`; None: the state.
        reason: Why, in a word that programs read.
        changes: Other columns to set.

    Raises:
        ConflictError: The rollout's state does not allow it.
    """
    before = RolloutState(rollout.state)
    state = apply(ROLLOUT, before, event, f"rollout {rollout.id}", "rollout_state")
    was = told(rollout) if told else before.value
    values: dict[str, object] = {
        "state": state.value,
        "due_at": by.now,
        "revision": rollout.revision + 1,
        **changes,
    }
    for name, value in values.items():
        setattr(rollout, name, value)
    session.add(rollout)
    moved = {"from": before.value, "to": state.value, "revision": rollout.revision}
    detail: dict[str, object] = {**moved, **(said or {})}
    subject = f"rollout/{rollout.id}"
    log.append(
        session,
        by.tag,
        at=by.now,
        actor=by.actor,
        subject=subject,
        before=was,
        after=told(rollout) if told else state.value,
        detail=detail,
        reason=reason,
    )
    return state


def move_group(
    session: Session,
    row: RolloutGroup,
    event: GroupEvent,
    by: By,
    **changes: object,
) -> None:
    """Apply an event to a group of a rollout that is held.

    Raises:
        ConflictError: The group's state does not allow it.
    """
    before, subject = GroupState(row.state), f"group {row.number} of rollout {row.rollout_id}"
    state = apply(GROUP, before, event, subject, "group_state")
    for name, value in {"state": state.value, **changes}.items():
        setattr(row, name, value)
    session.add(row)
    detail = {"group": row.number, "from": before.value, "to": state.value}
    about = f"rollout/{row.rollout_id}"
    log.append(
        session,
        by.tag,
        at=by.now,
        actor=by.actor,
        subject=about,
        before=before.value,
        after=state.value,
        detail=detail,
    )


def wake(session: Session, rollout_id: str, now: datetime) -> None:
    """Make the rollout due, whatever it waits for; a finished one is left alone by the planner."""
    statement = sqlalchemy.update(Rollout).where(col(Rollout.id) == rollout_id)
    session.connection().execute(statement.values(due_at=now))


def wake_waiting(session: Session, rollout_id: str, now: datetime) -> None:
    """Make the other rollouts due that have devices waiting: a slot of theirs may be free now."""
    waits = sqlalchemy.exists(
        sqlalchemy.select(sqlalchemy.literal(1))
        .select_from(Execution.metadata.tables["execution"])
        .where(
            col(Execution.rollout_id) == col(Rollout.id),
            col(Execution.state) == ExecutionState.QUEUED.value,
        )
    )
    statement = sqlalchemy.update(Rollout).where(
        col(Rollout.state) == RolloutState.RUNNING.value, col(Rollout.id) != rollout_id, waits
    )
    session.connection().execute(statement.values(due_at=now))


def find_run(session: Session, execution_id: str) -> Run | None:
    """Return an execution by id."""
    return next(iter(find_runs(session, [execution_id])), None)


def find_runs(session: Session, execution_ids: Sequence[str]) -> list[Run]:
    """Return executions by id, in order of position; unknown ones are left out."""
    rows = session.connection().execute(_RUNS, {"ids": execution_ids}).mappings()
    return [_run(**row) for row in rows]


def _run(state: str, step: str | None, **row: Any) -> Run:
    return Run(state=ExecutionState(state), step=None if step is None else Step(step), **row)


def move_execution(
    session: Session,
    run: Run,
    event: ExecutionEvent,
    by: By,
    *,
    reason: Reason | None = None,
    changes: Mapping[str, Any] | None = None,
    said: Mapping[str, object] | None = None,
) -> ExecutionState | None:
    """Apply an event to an execution; None if it is no longer in the state it was read in.

    Args:
        session: A transaction.
        run: The execution as it was read.
        event: What happens.
        by: Who, when, as what.
        reason: Why, if something is to be said.
        changes: Other columns to set.
        said: What else is to stand in the audit log.

    Raises:
        ConflictError: The state does not allow it.
    """
    state = apply(EXECUTION, run.state, event, f"execution {run.id}", "execution_state")
    values: dict[str, Any] = {"updated_at": by.now, **(changes or {})}
    if state is not run.state:
        values["state"] = state.value
    if reason is not None:
        values["reason"] = reason.as_json()
    if state is not ExecutionState.IN_PROGRESS:
        values["step"] = None
    if state.is_final:
        values["finished_at"] = by.now
    same = (col(Execution.id) == run.id) & (col(Execution.state) == run.state.value)
    statement = sqlalchemy.update(Execution).where(same).values(**values)
    if session.connection().execute(statement).rowcount != 1:
        return None
    if state is not run.state:
        why = {"reason": reason.as_json()} if reason is not None else {}
        _record(session, run, state, by, {**(said or {}), **why})
    if state is not ExecutionState.IN_PROGRESS:
        wake(session, run.rollout_id, by.now)
        if run.state is ExecutionState.IN_PROGRESS:
            wake_waiting(session, run.rollout_id, by.now)
    return state


def _record(
    session: Session,
    run: Run,
    state: ExecutionState,
    by: By,
    said: Mapping[str, object],
) -> None:
    detail: dict[str, object] = {
        "rollout": run.rollout_id,
        "device": run.device_id,
        "from": run.state.value,
        "to": state.value,
        **said,
    }
    subject = f"execution/{run.id}"
    log.append(
        session,
        by.tag,
        at=by.now,
        actor=by.actor,
        subject=subject,
        before=run.state.value,
        after=state.value,
        detail=detail,
    )
