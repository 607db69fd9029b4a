"""What people do to a rollout that is under way, beside moving it: promote, and try again."""

from __future__ import annotations

from typing import Final

import sqlalchemy
from sprat_proto.states import ExecutionState, GroupState, RolloutState
from sqlmodel import Session, col

from sprat_controller.audit import log
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.rollout import sql_facts
from sprat_controller.rollout.phases import EXECUTION, ExecutionEvent, RolloutEvent, allowing
from sprat_controller.rollout.records import By, move_rollout
from sprat_controller.store.tables import Device, Execution, Rollout

_UNDER_WAY: Final = (RolloutState.RUNNING, RolloutState.PAUSED)
_RETRIABLE: Final = (*_UNDER_WAY, RolloutState.FINISHED)
# Groups whose successor waits for them.
_PROMOTABLE: Final = (
    GroupState.RUNNING,
    GroupState.SOAKING,
    GroupState.ERROR,
    GroupState.ROLLED_BACK,
)
# Of the states from which something is tried again: those in which it is over.
_FAILED: Final = tuple(
    state for state in allowing(EXECUTION, ExecutionEvent.RETRY) if state.is_final
)


def promote(session: Session, rollout: Rollout, number: int, by: By) -> None:
    """Note that a person lets the group after `number` start.

    Raises:
        NotFoundError: There is no such group.
        ConflictError: The group has not started, or is through.
    """
    _check_state(rollout, _UNDER_WAY, "promote a group of")
    rows = sql_facts.groups(session, rollout.id)
    if not 0 <= number < len(rows):
        raise NotFoundError(
            "group_not_found",
            f"rollout {rollout.id} has no group {number}, it has 0 to {len(rows) - 1}",
        )
    row = rows[number]
    if row.state not in _PROMOTABLE:
        raise ConflictError(
            "group_state",
            f"group {number} of rollout {rollout.id} is {row.state}: expected one of"
            f" {', '.join(_PROMOTABLE)} to promote it",
            {"state": row.state},
        )
    before = "promoted" if row.promoted_at else row.state
    row.promoted_by, row.promoted_at = by.actor, by.now
    session.add(row)
    moved = (before, "promoted")
    _changed(session, rollout, by, moved, {"group": number, "state": row.state})


def retry_failed(session: Session, rollout: Rollout, by: By) -> None:
    """Queue again all that failed for good, but for groups in ERROR.

    Raises:
        ConflictError: The rollout does not allow it, or nothing failed.
    """
    _check_state(rollout, _RETRIABLE, "retry what failed in")
    usable = [
        row.number
        for row in sql_facts.groups(session, rollout.id)
        if row.state not in (GroupState.ERROR, GroupState.ROLLED_BACK)
    ]
    failed = sqlalchemy.and_(
        col(Execution.rollout_id) == rollout.id,
        col(Execution.state).in_([state.value for state in _FAILED]),
        # What the rollout itself took back did not fail.
        col(Execution.is_reverting).is_(sqlalchemy.false()),
        col(Execution.group_number).in_(usable),
    )
    devices = sqlalchemy.select(col(Execution.device_id)).where(failed)
    freed = sqlalchemy.update(Device).where(col(Device.id).in_(devices)).values(penalty_until=None)
    session.connection().execute(freed)
    queued = (
        sqlalchemy.update(Execution)
        .where(failed)
        .values(
            state=ExecutionState.QUEUED.value,
            attempt=col(Execution.attempt) + 1,
            tries=0,
            retry_at=None,
            deadline_at=None,
            excused_at=None,
            finished_at=None,
            updated_at=by.now,
        )
    )
    count = session.connection().execute(queued).rowcount
    if not count:
        raise ConflictError(
            "nothing_to_retry",
            f"nothing failed in rollout {rollout.id}: expected at least one execution that is"
            f" {', '.join(_FAILED)}",
        )
    if rollout.state == RolloutState.FINISHED:
        said = {"executions": str(count)}
        move_rollout(session, rollout, RolloutEvent.RETRY, by, said=said, finished_at=None)
    else:
        moved = ("failed", ExecutionState.QUEUED.value)
        _changed(session, rollout, by, moved, {"executions": count})


def _check_state(rollout: Rollout, states: tuple[RolloutState, ...], verb: str) -> None:
    if rollout.state not in states:
        raise ConflictError(
            "rollout_state",
            f"rollout {rollout.id} is {rollout.state}: expected one of {', '.join(states)} to"
            f" {verb} it",
            {"state": rollout.state},
        )


def _changed(
    session: Session, rollout: Rollout, by: By, moved: tuple[str, str], detail: dict[str, object]
) -> None:
    """Count a change that leaves the rollout's state as it is, and have it looked at.

    Args:
        session: A transaction.
        rollout: Which is held.
        by: Who, and what they do.
        moved: The state of what changes in it, before and after.
        detail: What else there is to say.
    """
    rollout.revision += 1
    rollout.due_at = by.now
    session.add(rollout)
    subject = f"rollout/{rollout.id}"
    before, after = moved
    log.append(
        session,
        by.tag,
        at=by.now,
        actor=by.actor,
        subject=subject,
        before=before,
        after=after,
        detail={**detail, "revision": rollout.revision},
    )
