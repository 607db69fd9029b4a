"""What each device should run, and the signed plan that says so.

A row of `DesiredModel` is bound to an execution that is under way, or else to the newest one that
succeeded there: when an execution ends in any other way, its row returns to what was proved before
(`withdraw`). Nothing here pushes: messages are returned, to be sent after the commit, and a lost
one is sent again at the device's next heartbeat.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy
from msgspec import UNSET, UnsetType
from sprat_proto import assignment
from sprat_proto.assignment import (
    AssignedModel,
    Assignment,
    Policy,
    Windows,
    spelled,
    spelled_policy,
    spelled_windows,
)
from sprat_proto.audit_events import Tag
from sprat_proto.states import DeviceState, ExecutionState, ReasonCode
from sprat_proto.trust import DIRECTOR
from sprat_proto.v1 import link_pb2
from sqlalchemy import BindParameter, bindparam
from sqlmodel import Session, col, func, select

from sprat_controller.audit import log
from sprat_controller.rollout import (
    approvals,
    attempts,
    fit_policy,
    frozen_strategy,
    precedence,
    serving,
)
from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.precedence import Ends
from sprat_controller.rollout.records import UNFINISHED, By, Run, find_runs, move_execution
from sprat_controller.rollout.released import planned_target
from sprat_controller.rollout.timing import windows_of
from sprat_controller.signer.port import Signer
from sprat_controller.store.tables import (
    AssignmentRow,
    DesiredModel,
    Device,
    Execution,
    Rollout,
    TrustMetadata,
    Variant,
)

ACTOR: Final = "planner"

# Made once: thousands of devices are given work in one go.
_OF_DEVICE: Final[BindParameter[str]] = bindparam("device")
_VERSIONS: Final = (
    sqlalchemy.select(
        col(AssignmentRow.version),
        col(Device.obeyed_version),
        col(Device.quarantined_at).is_not(None).label("is_quarantined"),
    )
    .select_from(Device)
    .outerjoin(AssignmentRow, col(AssignmentRow.device_id) == col(Device.id))
    .where(col(Device.id) == _OF_DEVICE)
    .with_for_update(of=Device)
)
_MODELS: Final = (
    sqlalchemy.select(
        col(DesiredModel.alias),
        col(Variant.publisher),
        col(Variant.model),
        col(Variant.release),
        col(Variant.variant),
        col(DesiredModel.digest),
        func.length(col(Variant.manifest)).label("size"),
        col(DesiredModel.execution_id),
        col(Execution.attempt),
        col(DesiredModel.rollout_id),
        col(DesiredModel.context),
        col(Rollout.run_until),
        col(Rollout.serving),
        col(Rollout.policy),
        col(Rollout.strategy),
    )
    .join(Variant, col(Variant.digest) == col(DesiredModel.digest))
    .outerjoin(Rollout, col(Rollout.id) == col(DesiredModel.rollout_id))
    .outerjoin(Execution, col(Execution.id) == col(DesiredModel.execution_id))
    .where(col(DesiredModel.device_id) == _OF_DEVICE)
    .order_by(col(DesiredModel.alias))
)
_REBIND: Final = sqlalchemy.update(DesiredModel).where(
    col(DesiredModel.device_id) == bindparam("key_device_id"),
    col(DesiredModel.alias) == bindparam("key_alias"),
)
_NEWEST: Final = sqlalchemy.select(
    col(AssignmentRow.version),
    col(AssignmentRow.targets),
    col(AssignmentRow.snapshot),
    col(AssignmentRow.timestamp),
).where(col(AssignmentRow.device_id) == _OF_DEVICE)
_OF_ROOT: Final = (col(TrustMetadata.repository) == DIRECTOR) & (col(TrustMetadata.role) == "root")
ROOT_VERSION: Final = sqlalchemy.select(func.max(col(TrustMetadata.version))).where(_OF_ROOT)
_ROOTS: Final = (
    sqlalchemy.select(col(TrustMetadata.data))
    .where(_OF_ROOT, col(TrustMetadata.version) > bindparam("above"))
    .order_by(col(TrustMetadata.version))
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


def supersede(session: Session, rollout: Rollout, runs: Sequence[Run], now: datetime) -> list[Run]:
    """Settle who has the alias of each device; return the runs that may take it.

    Of two rollouts the one of higher priority goes first, of equals the newer: what the other has
    under way ends as SUPERSEDED, and what it has not begun too if it is the older. A run ends so
    itself where such a one has the alias already.
    """
    mine = {run.device_id: run for run in runs}
    others = session.connection().execute(
        sqlalchemy.select(
            col(Execution.id),
            col(Execution.device_id),
            col(Execution.state),
            col(Execution.created_at),
            col(Rollout.id),
            col(Rollout.priority),
        )
        .join(Rollout, col(Rollout.id) == col(Execution.rollout_id))
        .where(
            col(Execution.device_id).in_(mine),
            col(Execution.rollout_id) != rollout.id,
            col(Execution.state).in_([*UNFINISHED, ExecutionState.SUCCEEDED.value]),
            col(Rollout.alias) == rollout.alias,
        )
    )
    by = By(Tag.EXECUTION_DECIDED, ACTOR, now)
    outdone: set[str] = set()
    for execution_id, device_id, state, created_at, other_id, priority in others.all():
        run = mine[device_id]
        is_newer = (created_at, execution_id) > (run.created_at, run.id)
        ends = precedence.settle(
            rollout.priority, priority, ExecutionState(state), is_newer=is_newer
        )
        if ends is Ends.OTHER:
            _supersede(session, execution_id, rollout.id, by)
        elif ends is Ends.MINE and device_id not in outdone:
            outdone.add(device_id)
            _supersede(session, run.id, other_id, by)
    return [run for run in runs if run.device_id not in outdone]


def _supersede(session: Session, execution_id: str, winner: str, by: By) -> None:
    reason = Reason(ReasonCode.SUPERSEDED, f"a newer rollout, {winner}, took its place")
    for run in find_runs(session, [execution_id]):
        move_execution(session, run, ExecutionEvent.CANCEL, by, reason=reason)


def bound_to(session: Session, rollout: Rollout, device_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the devices whose alias is bound to what the rollout brought.

    A device on its way back to that is one of them.
    """
    bound = sqlalchemy.select(col(DesiredModel.device_id)).where(
        col(DesiredModel.device_id).in_(device_ids),
        col(DesiredModel.alias) == rollout.alias,
        col(DesiredModel.rollout_id) == rollout.id,
    )
    return frozenset(session.connection().execute(bound).scalars())


def end_ways_back(
    session: Session, rollout: Rollout, device_ids: Collection[str], now: datetime
) -> None:
    """End the ways back of other rollouts to what this one takes back: it has its own."""
    others = session.connection().execute(
        sqlalchemy.select(col(Execution.id))
        .join(Rollout, col(Rollout.id) == col(Execution.rollout_id))
        .where(
            col(Execution.device_id).in_(device_ids),
            col(Execution.rollout_id) != rollout.id,
            col(Execution.state) == ExecutionState.IN_PROGRESS.value,
            col(Execution.is_reverting),
            col(Rollout.alias) == rollout.alias,
        )
    )
    by = By(Tag.EXECUTION_DECIDED, ACTOR, now)
    said = f"rollout {rollout.id}, which it was going back to, is rolled back too"
    reason = Reason(ReasonCode.SUPERSEDED, said)
    for run in find_runs(session, others.scalars().all()):
        move_execution(session, run, ExecutionEvent.CANCEL, by, reason=reason)


def withdraw(
    session: Session, signer: Signer, run: Run, now: datetime, *, runs: str | None
) -> link_pb2.ControllerMessage | None:
    """Return the device to what was proved before `run`, which ended without success.

    Args:
        session: A transaction.
        signer: Signs plans.
        run: What ended.
        now: The caller's clock.
        runs: The digest that the device says it runs after that; None: it was not asked. Unless
            this is what was proved, it may have committed something in the meantime: `run`, or what
            `run` superseded. A device never runs an execution again, so its way back is an
            execution of its own for it (`attempts.way_back`); it ends at once where nothing was
            committed.

    Returns:
        The new assignment; None if a newer execution had taken the alias already.
    """
    # By the rollout: a way back of a newer one to what `run` proved is bound to neither of the two.
    mine = (col(DesiredModel.device_id) == run.device_id) & (
        col(DesiredModel.rollout_id) == run.rollout_id
    )
    connection = session.connection()
    alias = connection.execute(sqlalchemy.select(col(DesiredModel.alias)).where(mine)).scalar()
    if alias is None:
        return None
    proved = _proved(session, run.device_id, alias)
    if proved is None:
        connection.execute(sqlalchemy.delete(DesiredModel).where(mine))
    else:
        is_there = runs == proved.digest
        name = proved.execution_id if is_there else attempts.way_back(run.name)
        bind(session, replace(proved, execution_id=name))
    return issue(session, signer, run.device_id, now)


def issue(
    session: Session, signer: Signer, device_id: str, now: datetime
) -> link_pb2.ControllerMessage | None:
    """Sign and keep the next assignment of a device, made from all its desired rows.

    Its version is above the last one and above what the device says it obeys, so that a controller
    whose database was restored from a backup is still heard.

    Returns:
        The plan to send; None for a device in quarantine, which gets none until it is released.

    Raises:
        SignerError: The signer refused, or is not there: nothing is to be kept.
    """
    last, obeyed, is_quarantined = _standing(session, device_id)
    if is_quarantined:
        return None
    version = max(last or 0, obeyed) + 1
    made = _make(session, device_id, version, now)
    message = _sign(session, signer, made, now)
    session.connection().execute(_PEND, _named({"device_id": device_id}))
    _record(session, made, now)
    return message


def renew(
    session: Session, signer: Signer, device_id: str, now: datetime
) -> link_pb2.ControllerMessage | None:
    """Sign a device's present assignment anew, so that it does not expire; see `issue`.

    What was decided since (in quarantine, no plan is made of it) is another version: a device
    refuses other content under the version that it has.
    """
    last, _, is_quarantined = _standing(session, device_id)
    if is_quarantined or last is None:
        return None
    made = _make(session, device_id, last, now)
    if not _is_said(session, made):
        return issue(session, signer, device_id, now)
    signed_as = sqlalchemy.select(col(AssignmentRow.director_version)).where(
        col(AssignmentRow.device_id) == device_id
    )
    before = session.connection().execute(signed_as).scalar_one()
    message = _sign(session, signer, made, now)
    log.append(
        session,
        Tag.ASSIGNMENT_RENEWED,
        at=now,
        actor=ACTOR,
        subject=f"device/{device_id}",
        before=str(before),
        after=str(session.connection().execute(signed_as).scalar_one()),
        detail={"version": last},
    )
    return message


def resume(
    session: Session, signer: Signer, device_id: str, now: datetime
) -> link_pb2.ControllerMessage | None:
    """Sign what was decided while the device was in quarantine, which ended; see `issue`."""
    last, _, _ = _standing(session, device_id)
    if last is not None:
        return renew(session, signer, device_id, now)
    is_desired = col(DesiredModel.device_id) == device_id
    wanted = session.connection().execute(sqlalchemy.select(sqlalchemy.exists().where(is_desired)))
    return issue(session, signer, device_id, now) if wanted.scalar() else None


def newest(session: Session, device_id: str) -> link_pb2.ControllerMessage:
    """Return the plan of the device that was signed last."""
    return _message(*session.connection().execute(_NEWEST, {"device": device_id}).one())


def with_roots(
    session: Session, message: link_pb2.ControllerMessage, root_version: int
) -> link_pb2.ControllerMessage:
    """Add the director's roots above the one that a device trusts."""
    message.assignment.roots.extend(
        session.connection().execute(_ROOTS, {"above": root_version}).scalars()
    )
    return message


def _standing(session: Session, device_id: str) -> tuple[int | None, int, bool]:
    """Return the last version assigned, the one obeyed, and whether it is in quarantine."""
    row = session.connection().execute(_VERSIONS, {"device": device_id}).mappings().one()
    return row["version"], row["obeyed_version"], bool(row["is_quarantined"])


def _make(session: Session, device_id: str, version: int, now: datetime) -> Assignment:
    models, context = _models(session, device_id)
    return Assignment(
        schema=assignment.SCHEMA,
        device_id=device_id,
        version=version,
        issued=now.isoformat(timespec="milliseconds"),
        models=models,
        policy=Policy(context=context),
        approvals=approvals.envelopes(session, {one.rollout_id for one in models}),
    )


def _is_said(session: Session, made: Assignment) -> bool:
    """Tell whether the newest plan says this, whenever it was signed."""
    targets = newest(session, made.device_id).assignment.targets
    said = assignment.from_custom(json.loads(targets)["signed"]["custom"])
    return msgspec.structs.replace(made, issued=said.issued) == said


def _sign(
    session: Session, signer: Signer, made: Assignment, now: datetime
) -> link_pb2.ControllerMessage:
    """Have the plan signed, and keep it as the newest of its device."""
    connection = session.connection()
    digests = dict.fromkeys(one.digest for one in made.models)
    signed = signer.issue_plan(made, [planned_target(session, digest) for digest in digests])
    values = {
        "version": made.version,
        "issued_at": now,
        "director_version": signed.version,
        "root_version": connection.execute(ROOT_VERSION).scalar() or 0,
        "targets": signed.targets,
        "snapshot": signed.snapshot,
        "timestamp": signed.timestamp,
    }
    key_of_row = {"device_id": made.device_id}
    if connection.execute(_REISSUE, {**values, **_named(key_of_row)}).rowcount == 0:
        connection.execute(sqlalchemy.insert(AssignmentRow), {**key_of_row, **values})
    return _message(made.version, signed.targets, signed.snapshot, signed.timestamp)


def _message(
    version: int, targets: bytes, snapshot: bytes, timestamp: bytes
) -> link_pb2.ControllerMessage:
    return link_pb2.ControllerMessage(
        assignment=link_pb2.Assignment(
            version=version, targets=targets, snapshot=snapshot, timestamp=timestamp
        )
    )


def _models(session: Session, device_id: str) -> tuple[list[AssignedModel], int]:
    """Return what is desired, by alias, and the largest context that any of it needs."""
    models: list[AssignedModel] = []
    contexts: list[int] = []
    for row in session.connection().execute(_MODELS, {"device": device_id}).mappings():
        said: dict[str, Any] = dict(row)
        contexts.append(said.pop("context"))
        said["execution_id"] = attempts.name_of(said["execution_id"], said.pop("attempt"))
        stored: Mapping[str, Any] | None = said.pop("strategy")
        until: datetime | None = said.pop("run_until")
        terms = serving.from_json(said.pop("serving"))
        policy = fit_policy.from_json(said.pop("policy"))
        models.append(
            AssignedModel(
                **said,
                run_until=int(until.timestamp()) if until else 0,
                serving=spelled(terms),
                policy=spelled_policy(policy),
                windows=_windows(stored, said["execution_id"]),
            )
        )
    return models, max(contexts, default=Policy().context)


def _windows(stored: Mapping[str, Any] | None, name: str) -> Windows | UnsetType:
    """Return when a device may bring in what it knows by this name."""
    if stored is None:
        return UNSET
    strategy = frozen_strategy.from_json(stored)
    return spelled_windows(windows_of(strategy, is_way_back=attempts.is_way_back(name)))


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


def _record(session: Session, made: Assignment, now: datetime) -> None:
    listed = [
        {"alias": one.alias, "digest": one.digest, "execution": one.execution_id}
        for one in made.models
    ]
    log.append(
        session,
        Tag.ASSIGNMENT_ISSUED,
        at=now,
        actor=ACTOR,
        subject=f"device/{made.device_id}",
        after=str(made.version),
        detail={"version": made.version, "models": listed},
    )
