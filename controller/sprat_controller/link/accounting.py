"""What a device runs is held against what explains it; the rows of `fallbacks`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, ReasonCode
from sqlmodel import col

from sprat_controller.audit import log
from sprat_controller.fleet import observed_metrics
from sprat_controller.link import fallbacks, known
from sprat_controller.link.fallbacks import Account, Ended, Fallback
from sprat_controller.link.inbound import RunningJson
from sprat_controller.link.known import Hearing, Reply
from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import By, find_runs, hold, move_execution, wake
from sprat_controller.store.tables import DesiredModel


def settle(
    hearing: Hearing, running: RunningJson, reply: Reply, *, is_forgotten: bool = False
) -> dict[str, Any]:
    """Return what changed, after a message that says what runs; what is new is written down.

    Call it only if every report of the device was taken in.

    Args:
        hearing: A transaction.
        running: As the device says.
        reply: Told that there may be something to decide.
        is_forgotten: Reports were lost here: what runs is taken as it is.
    """
    before = Account({}, {}) if is_forgotten else hearing.device.account
    digests = {alias: one["digest"] for alias, one in running.items()}
    if digests == before.accounted and not before.fallbacks:
        return {}
    desired = known.desired(hearing.session, hearing.device.id)
    after = fallbacks.settle(before, digests, desired, hearing.now)
    for one in after.news:
        _fell_back(hearing, one)
        reply.is_progress = True
    _recovered(hearing, after)
    return _changes(hearing.device.account, after)


def explain(hearing: Hearing, ended: Ended) -> dict[str, Any]:
    """Return what changed, after a report that an execution ended."""
    after = fallbacks.explain(hearing.device.account, ended)
    _recovered(hearing, after)
    return _changes(hearing.device.account, after)


def _changes(before: Account, after: Account) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if after.accounted != before.accounted:
        values["accounted"] = dict(after.accounted)
    if after.fallbacks != before.fallbacks:
        values["fallbacks"] = after.fallbacks or None
    return values


def _fell_back(hearing: Hearing, one: Fallback) -> None:
    """Write it down, count it against what should run, and let its rollout look."""
    session, device_id = hearing.session, hearing.device.id
    _write(hearing, Tag.DEVICE_FELL_BACK, one)
    observed_metrics.note_fallback(session, device_id, (one.alias, one.expected), hearing.now)
    bound = sqlalchemy.select(col(DesiredModel.execution_id), col(DesiredModel.rollout_id)).where(
        col(DesiredModel.device_id) == device_id, col(DesiredModel.alias) == one.alias
    )
    row = session.connection().execute(bound).one_or_none()
    if row is None:
        return
    hold(session, row.rollout_id)
    wake(session, row.rollout_id, hearing.now)
    for run in find_runs(session, [row.execution_id]):
        if run.state is ExecutionState.SUCCEEDED and run.digest == one.expected:
            by = By(Tag.EXECUTION_CHANGED, hearing.by_device, hearing.now)
            move_execution(session, run, ExecutionEvent.ROLL_BACK, by, reason=_reverted(one))


def _reverted(one: Fallback) -> Reason:
    return Reason(
        ReasonCode.REVERTED,
        "the device had proved it, and runs something else without having said so",
        expected=one.expected,
        found=one.found,
    )


def _recovered(hearing: Hearing, after: Account) -> None:
    for alias in after.mended:
        was = (hearing.device.fallbacks or {})[alias]
        now_runs = after.accounted.get(alias, "")
        _write(hearing, Tag.DEVICE_RECOVERED, Fallback(alias, was["expected"], now_runs))


def _write(hearing: Hearing, tag: Tag, what: Fallback) -> None:
    log.append(
        hearing.session,
        tag,
        at=hearing.now,
        actor=hearing.by_device,
        subject=f"device/{hearing.device.id}",
        outcome="failure" if tag is Tag.DEVICE_FELL_BACK else "success",
        reason="fell_back" if tag is Tag.DEVICE_FELL_BACK else None,
        detail=asdict(what),
    )
