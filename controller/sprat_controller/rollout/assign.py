"""What each device should run, and the signed assignment that says so.

A row of `DesiredModel` is bound to an execution that is under way, or else to the newest one that
succeeded there: when an execution ends in any other way, its row returns to what was proved before
(`withdraw`). Nothing here pushes: messages are returned, to be sent after the commit, and a lost
one is sent again at the device's next heartbeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import sqlalchemy
from sprat_proto import assignment
from sprat_proto.assignment import AssignedModel, Assignment, EnvelopeRef, Policy
from sprat_proto.signing import SigningKey
from sprat_proto.states import DeviceState, ExecutionState, ReasonCode
from sprat_proto.v1 import link_pb2
from sqlalchemy import BindParameter, bindparam
from sqlmodel import Session, col, select

from sprat_controller.audit import log
from sprat_controller.audit.tags import Tag
from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import UNFINISHED, By, Run, find_runs, move_execution
from sprat_controller.store.tables import (
    AssignmentRow,
    DesiredModel,
    Device,
    Execution,
    Rollout,
    Variant,
)

ACTOR: Final = "planner"
# Ends the name of the execution by which a device goes back; no row has it.
RETURN_SUFFIX: Final = ".return"


# Made once: thousands of devices are given work in one go.
_OF_DEVICE: Final[BindParameter[str]] = bindparam("device")
_VERSIONS: Final = (
    sqlalchemy.select(col(AssignmentRow.version), col(Device.obeyed_version))
    .select_from(Device)
    .outerjoin(AssignmentRow, col(AssignmentRow.device_id) == col(Device.id))
    .where(col(Device.id) == _OF_DEVICE)
    .with_for_update(of=Device)
)
_MODELS: Final = (
    sqlalchemy.select(
        col(DesiredModel.alias),
        col(Variant.model),
        col(Variant.release),
        col(Variant.variant),
        col(DesiredModel.digest),
        col(Variant.envelope_sha256),
        col(Variant.envelope_size),
        col(DesiredModel.execution_id),
        col(DesiredModel.rollout_id),
        col(DesiredModel.context),
    )
    .join(Variant, col(Variant.digest) == col(DesiredModel.digest))
    .where(col(DesiredModel.device_id) == _OF_DEVICE)
    .order_by(col(DesiredModel.alias))
)
_REBIND: Final = sqlalchemy.update(DesiredModel).where(
    col(DesiredModel.device_id) == bindparam("key_device_id"),
    col(DesiredModel.alias) == bindparam("key_alias"),
)
_REISSUE: Final = sqlalchemy.update(AssignmentRow).where(
    col(AssignmentRow.device_id) == bindparam("key_device_id")
)
_PEND: Final = (
    sqlalchemy.update(Device)
    .where(col(Device.id) == bindparam("key_device_id"))
    .values(state=DeviceState.PENDING.value)
)


@dataclass(frozen=True)
class Binding:
    """An alias of a device, and what it shall be bound to."""

    device_id: str
    alias: str
    digest: str
    execution_id: str
    rollout_id: str
    context: int  # tokens


def bind(session: Session, binding: Binding) -> None:
    """Make the binding what is desired; `issue` makes the assignment that says so."""
    connection = session.connection()
    values = {
        "digest": binding.digest,
        "execution_id": binding.execution_id,
        "rollout_id": binding.rollout_id,
        "context": binding.context,
    }
    key = {"device_id": binding.device_id, "alias": binding.alias}
    if connection.execute(_REBIND, {**values, **_named(key)}).rowcount == 0:
        connection.execute(sqlalchemy.insert(DesiredModel), {**key, **values})


def supersede(session: Session, runs: Sequence[Run], alias: str, now: datetime) -> None:
    """Cancel what older rollouts have not finished for the same alias of the same devices."""
    newer = {run.device_id: run for run in runs}
    others = session.connection().execute(
        sqlalchemy.select(col(Execution.id), col(Execution.device_id), col(Execution.created_at))
        .join(Rollout, col(Rollout.id) == col(Execution.rollout_id))
        .where(
            col(Execution.device_id).in_(newer),
            col(Execution.state).in_(UNFINISHED),
            col(Rollout.alias) == alias,
        )
    )
    by = By(Tag.EXECUTION_DECIDED, ACTOR, now)
    for execution_id, device_id, created_at in others.all():
        run = newer[device_id]
        if (created_at, execution_id) >= (run.created_at, run.id):
            continue
        reason = Reason(ReasonCode.SUPERSEDED, f"a newer rollout, {run.rollout_id}, took its place")
        for older in find_runs(session, [execution_id]):
            move_execution(session, older, ExecutionEvent.CANCEL, by, reason=reason)


def withdraw(
    session: Session, key: SigningKey, run: Run, now: datetime, *, unasked: bool
) -> link_pb2.ControllerMessage | None:
    """Return the device to what was proved before `run`, which ended without success.

    Args:
        session: A transaction.
        key: The assignment key.
        run: What ended.
        now: The caller's clock.
        unasked: The planner ended it, so the device may have committed it in the meantime. A device
            never runs an execution again, so the way back is an execution of its own for it, named
            `<id>.return`; it ends at once where nothing was committed.

    Returns:
        The new assignment; None if a newer execution had taken the alias already.
    """
    mine = (col(DesiredModel.device_id) == run.device_id) & (
        col(DesiredModel.execution_id) == run.id
    )
    connection = session.connection()
    alias = connection.execute(sqlalchemy.select(col(DesiredModel.alias)).where(mine)).scalar()
    if alias is None:
        return None
    proved = _proved(session, run.device_id, alias)
    if proved is None:
        connection.execute(sqlalchemy.delete(DesiredModel).where(mine))
    else:
        way_back = run.id + RETURN_SUFFIX if unasked else proved.execution_id
        bind(session, replace(proved, execution_id=way_back))
    return issue(session, key, run.device_id, now)


def issue(
    session: Session, key: SigningKey, device_id: str, now: datetime
) -> link_pb2.ControllerMessage:
    """Sign and keep the next assignment of a device, made from all its desired rows.

    Its version is above the last one and above what the device says it obeys, so that a controller
    whose database was restored from a backup is still heard.
    """
    connection = session.connection()
    last, obeyed = connection.execute(_VERSIONS, {"device": device_id}).one()
    version = max(last or 0, obeyed) + 1
    models, context = _models(session, device_id)
    payload = assignment.encode(
        Assignment(
            schema=assignment.SCHEMA,
            device_id=device_id,
            version=version,
            issued=now.isoformat(timespec="milliseconds"),
            models=models,
            policy=Policy(context=context),
        )
    )
    envelope = key.sign(payload, assignment.PAYLOAD_TYPE)
    values = {"version": version, "issued_at": now, "envelope": envelope}
    key_of_row = {"device_id": device_id}
    if connection.execute(_REISSUE, {**values, **_named(key_of_row)}).rowcount == 0:
        connection.execute(sqlalchemy.insert(AssignmentRow), {**key_of_row, **values})
    connection.execute(_PEND, _named(key_of_row))
    _record(session, device_id, version, models, now)
    return to_message(version, envelope)


def to_message(version: int, envelope: bytes) -> link_pb2.ControllerMessage:
    """Return an assignment as it travels."""
    body = link_pb2.Assignment(version=version, envelope=envelope)
    return link_pb2.ControllerMessage(assignment=body)


def _models(session: Session, device_id: str) -> tuple[list[AssignedModel], int]:
    """Return what is desired, by alias, and the largest context that any of it needs."""
    rows = session.connection().execute(_MODELS, {"device": device_id})
    models: list[AssignedModel] = []
    contexts: list[int] = []
    for alias, model, release, variant, digest, sha256, size, execution, rollout, context in rows:
        envelope = EnvelopeRef(sha256=sha256, size=size)
        models.append(
            AssignedModel(alias, model, release, variant, digest, envelope, execution, rollout)
        )
        contexts.append(context)
    return models, max(contexts, default=Policy().context)


def _proved(session: Session, device_id: str, alias: str) -> Binding | None:
    """Return what last succeeded under the alias (not what was found running already)."""
    row = session.exec(
        select(Execution.digest, Execution.id, Execution.rollout_id, Rollout.context)
        .join(Rollout, col(Rollout.id) == col(Execution.rollout_id))
        .where(
            col(Execution.device_id) == device_id,
            col(Rollout.alias) == alias,
            col(Execution.state) == ExecutionState.SUCCEEDED.value,
            col(Execution.started_at).is_not(None),
        )
        .order_by(col(Execution.finished_at).desc(), col(Execution.id).desc())
        .limit(1)
    ).first()
    if row is None or row[0] is None:
        return None
    digest, execution_id, rollout_id, context = row
    return Binding(device_id, alias, digest, execution_id, rollout_id, context)


def _named(key: Mapping[str, str]) -> dict[str, str]:
    """Return a row's key under names that its columns do not have."""
    return {f"key_{name}": value for name, value in key.items()}


def _record(
    session: Session, device_id: str, version: int, models: list[AssignedModel], now: datetime
) -> None:
    listed = [
        {"alias": one.alias, "digest": one.digest, "execution": one.execution_id} for one in models
    ]
    log.append(
        session,
        Tag.ASSIGNMENT_ISSUED,
        at=now,
        actor=ACTOR,
        subject=f"device/{device_id}",
        detail={"version": version, "models": listed},
    )
