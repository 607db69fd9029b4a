"""Devices that are back: after they were away, and from what a rollout took back.

A device that had nothing before has no way back that it could report on: its alias is gone, and
that is seen in what it says it runs.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, ReasonCode
from sqlmodel import col

from sprat_controller.link.inbound import RunningJson
from sprat_controller.link.known import Hearing, Reply
from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import UNFINISHED, By, find_runs, move_execution, wake
from sprat_controller.store.tables import DesiredModel, Execution, Rollout

TAKEN_BACK: Final = Reason(ReasonCode.ROLLED_BACK_BY_ROLLOUT, "the rollout was rolled back")
_OF_DEVICE: Final = col(Execution.device_id) == sqlalchemy.bindparam("device")
# Made once: what is said to every device's Hello.
_EXCUSED: Final = (
    sqlalchemy.select(col(Execution.rollout_id))
    .where(_OF_DEVICE, col(Execution.state).in_(UNFINISHED), col(Execution.excused_at).is_not(None))
    .distinct()
)
_REVERTING: Final = (
    sqlalchemy.select(col(Execution.id), col(Rollout.alias))
    .join(Rollout, col(Rollout.id) == col(Execution.rollout_id))
    .outerjoin(
        DesiredModel,
        sqlalchemy.and_(
            col(DesiredModel.device_id) == col(Execution.device_id),
            col(DesiredModel.alias) == col(Rollout.alias),
        ),
    )
    .where(
        _OF_DEVICE,
        col(Execution.state) == ExecutionState.IN_PROGRESS.value,
        col(Execution.is_reverting),
        col(DesiredModel.alias).is_(None),
    )
)


def heard_again(hearing: Hearing, reply: Reply) -> None:
    """Have the rollouts look that counted the device no more because it was silent."""
    rows = hearing.session.connection().execute(_EXCUSED, {"device": hearing.device.id})
    for rollout_id in rows.scalars().all():
        wake(hearing.session, rollout_id, hearing.now)
        reply.is_progress = True


def emptied(hearing: Hearing, running: RunningJson, reply: Reply) -> None:
    """End the way back of those whose alias is gone."""
    rows = hearing.session.connection().execute(_REVERTING, {"device": hearing.device.id})
    by = By(Tag.EXECUTION_CHANGED, hearing.by_device, hearing.now)
    for execution_id, alias in rows.all():
        if alias in running:
            continue
        for run in find_runs(hearing.session, [execution_id]):
            move_execution(hearing.session, run, ExecutionEvent.ROLL_BACK, by, reason=TAKEN_BACK)
            reply.is_progress = True
