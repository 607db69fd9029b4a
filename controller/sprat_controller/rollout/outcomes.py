"""How an execution that is under way goes on or ends badly, and until when it must have gone on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step
from sqlmodel import Session, col, select

from sprat_controller.rollout import deadlines, retries
from sprat_controller.rollout.deadlines import Standing
from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import By, Run, move_execution, strategy_of
from sprat_controller.store.tables import Device, Rollout, RolloutGroup

_DRAW_BYTES: Final = 8
_CODES: Final = {code.value: code for code in ReasonCode}


def started(rollout: Rollout, now: datetime) -> dict[str, Any]:
    """Return what is different of an execution that is given out now."""
    standing = Standing(now)
    return {
        "started_at": now,
        "step_since": None,
        "retry_at": None,
        "deadline_at": deadlines.due(strategy_of(rollout), standing).at,
    }


def told(rollout: Rollout, run: Run, step: Step | None, now: datetime) -> dict[str, Any]:
    """Return what is different of an execution whose device says at which step it is."""
    if run.is_reverting or run.started_at is None:
        return {}
    since = run.step_since if step is run.step and run.step_since is not None else now
    standing = Standing(run.started_at, step, since if step else None, now if step else None)
    deadline = _deadline(rollout, run, standing)
    return {"step": step, "step_since": standing.step_since, "deadline_at": deadline}


def fail(
    session: Session,
    rollout: Rollout,
    run: Run,
    event: ExecutionEvent,
    by: By,
    *,
    reason: Reason | None,
    changes: Mapping[str, Any] | None = None,
) -> ExecutionState | None:
    """End an execution that is under way, or have it tried again if that may help.

    A device whose tries are used up is in the penalty box for a while.

    Args:
        session: A transaction in which the rollout is held.
        rollout: The run's.
        run: What failed, IN_PROGRESS.
        event: How it ends if nothing is tried again: FAIL, TIME_OUT or ROLL_BACK.
        by: Who says so, and when.
        reason: Why.
        changes: Other columns to set.

    Returns:
        The new state; None if the run is no longer what it was.
    """
    asked, code = strategy_of(rollout).retries, _code(reason)
    again_at = None
    if not run.is_reverting and _goes_on(session, rollout, run):
        again_at = retries.retry_at(asked, event, code, run.tries, by.now, draw=_draw(run))
    if again_at is not None:
        once_more = {
            **(changes or {}),
            "tries": run.tries + 1,
            "attempt": run.attempt + 1,
            "retry_at": again_at,
            "step_since": None,
            "deadline_at": None,
        }
        said = {"try": run.tries + 1, "not_before": again_at.isoformat()}
        return move_execution(
            session, run, ExecutionEvent.RETRY, by, reason=reason, changes=once_more, said=said
        )
    state = move_execution(session, run, event, by, reason=reason, changes=changes)
    until = retries.penalty_until(asked, event, code, by.now)
    if state is not None and until is not None and not run.is_reverting:
        of_device = sqlalchemy.update(Device).where(col(Device.id) == run.device_id)
        session.connection().execute(of_device.values(penalty_until=until))
    return state


def readmitted(rollout: Rollout, run: Run, now: datetime) -> dict[str, Any]:
    """Return what is different of an execution whose device is back: its step begins anew."""
    changes: dict[str, Any] = {"excused_at": None, "deadline_at": None}
    if run.standing is not None:
        strategy = strategy_of(rollout)
        standing = deadlines.returned(strategy, run.standing, now)
        changes["started_at"] = standing.started_at
        changes["step_since"] = standing.step_since
        changes["deadline_at"] = deadlines.due(strategy, standing).at
    return changes


def _deadline(rollout: Rollout, run: Run, standing: Standing) -> datetime | None:
    strategy = strategy_of(rollout)
    if run.excused_at is not None:
        return deadlines.excused_until(strategy, run.excused_at, standing)
    return deadlines.due(strategy, standing).at


def _goes_on(session: Session, rollout: Rollout, run: Run) -> bool:
    group = session.connection().execute(
        select(RolloutGroup.state).where(
            col(RolloutGroup.rollout_id) == rollout.id,
            col(RolloutGroup.number) == run.group_number,
        )
    )
    return retries.goes_on(RolloutState(rollout.state), GroupState(group.scalar_one()))


def _code(reason: Reason | None) -> ReasonCode | None:
    """Return the code of a reason; one that is not known here is tried again as little."""
    return None if reason is None else _CODES.get(reason.code)


def _draw(run: Run) -> float:
    """Return a number from [0, 1): the same for the same try, and spread over executions."""
    drawn = hashlib.sha256(f"{run.id}\0{run.tries}".encode()).digest()[:_DRAW_BYTES]
    return int.from_bytes(drawn) / (1 << 8 * _DRAW_BYTES)
