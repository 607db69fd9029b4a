"""The row of a device as the conversation needs it: read in one look, written in one UPDATE.

Tens of thousands of devices say something every minute: statements here are Core, not ORM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy
from sprat_proto.states import DeviceState, ExecutionState
from sprat_proto.v1.link_pb2 import ControllerMessage
from sqlmodel import Session, col

from sprat_controller.link.acknowledge import Acknowledger
from sprat_controller.link.fallbacks import Account, FallbackJson
from sprat_controller.link.inbound import RunningJson
from sprat_controller.rollout.assign import ROOT_VERSION
from sprat_controller.signer.port import Signer
from sprat_controller.store.tables import AssignmentRow, DesiredModel, Device, Execution


@dataclass(frozen=True)
class Known:
    """What is kept of a device that is speaking."""

    id: str
    state: str
    profile: Mapping[str, Any] | None
    obeyed_version: int
    running: RunningJson
    report_seq: int
    audit_seq: int
    is_quarantined: bool
    assigned_version: int | None  # None before the first assignment
    # Of the plan that was signed last: TUF version, when, and the director's root then.
    plan_version: int | None
    plan_issued_at: datetime | None
    plan_root: int | None
    root_version: int | None  # of the director, now
    accounted: Mapping[str, str] | None = None  # see `fallbacks`
    fallbacks: FallbackJson | None = None
    # What seals its audit log, where that ends here (see `trail.head_of`), and when the newest
    # record came, or the device.
    audit_key: str = ""
    audit_seed: bytes | None = None
    audit_frontier: bytes | None = None
    audit_epoch: int = 0
    audit_epoch_key: bytes | None = None
    audit_at: datetime | None = None
    # Which start of its agent spoke last, which did before; see `copies`.
    boot_id: str = ""
    former_boots: Mapping[str, int] | None = None
    audit_forked_at: int | None = None

    @property
    def account(self) -> Account:
        """How what it runs stands to what explains it."""
        return Account(self.accounted or {}, self.fallbacks or {})


@dataclass(frozen=True)
class Hearing:
    """What is at hand while a device is heard: one transaction, one moment."""

    session: Session
    signer: Signer
    acknowledger: Acknowledger
    device: Known
    carrier: str
    now: datetime

    @property
    def by_device(self) -> str:
        """The device as an actor of the audit log."""
        return f"device:{self.device.id}"


@dataclass
class Reply:
    """What a message leads to, beside its changes to rows."""

    messages: list[ControllerMessage] = field(default_factory=list[ControllerMessage])
    # Sentences about what was refused, for the audit log.
    refused: list[str] = field(default_factory=list[str])
    # An execution ended: there may be something to decide.
    is_progress: bool = False


# Made once: what is said to every device's every word.
_LOOK_UP: Final = (
    sqlalchemy.select(
        col(Device.id),
        col(Device.state),
        col(Device.profile),
        col(Device.obeyed_version),
        col(Device.running),
        col(Device.report_seq),
        col(Device.audit_seq),
        col(Device.quarantined_at).is_not(None),
        col(AssignmentRow.version),
        col(AssignmentRow.director_version),
        col(AssignmentRow.issued_at),
        col(AssignmentRow.root_version),
        ROOT_VERSION.scalar_subquery(),
        col(Device.accounted),
        col(Device.fallbacks),
        col(Device.audit_key),
        col(Device.audit_seed),
        col(Device.audit_frontier),
        col(Device.audit_epoch),
        col(Device.audit_epoch_key),
        sqlalchemy.func.coalesce(col(Device.audit_at), col(Device.enrolled_at)),
        col(Device.boot_id),
        col(Device.former_boots),
        col(Device.audit_forked_at),
    )
    .outerjoin(AssignmentRow, col(AssignmentRow.device_id) == col(Device.id))
    .where(col(Device.id) == sqlalchemy.bindparam("device"), col(Device.revoked_at).is_(None))
    .with_for_update(of=Device)
)
_DESIRED: Final = (
    sqlalchemy.select(col(DesiredModel.alias), col(DesiredModel.digest), col(Execution.state))
    .outerjoin(Execution, col(Execution.id) == col(DesiredModel.execution_id))
    .where(col(DesiredModel.device_id) == sqlalchemy.bindparam("device"))
)
_SAVE: Final = sqlalchemy.update(Device).where(col(Device.id) == sqlalchemy.bindparam("device"))


def look_up(session: Session, device_id: str) -> Known | None:
    """Return the device, or None if it is unknown or was removed."""
    row = session.connection().execute(_LOOK_UP, {"device": device_id}).first()
    return None if row is None else Known(*row)


def save(session: Session, device_id: str, now: datetime, values: Mapping[str, Any]) -> None:
    """Write what changed, and that the device was heard."""
    changes = {"last_seen_at": now, **values}
    session.connection().execute(_SAVE, {"device": device_id, **changes})


def state_of(session: Session, known: Known, *, running: RunningJson, obeyed: int) -> DeviceState:
    """Return how the device stands to its assignment, by what it runs."""
    rows = session.connection().execute(_DESIRED, {"device": known.id}).all()
    return judge(
        desired={alias: digest for alias, digest, _ in rows},
        running={alias: model["digest"] for alias, model in running.items()},
        is_open=any(state == ExecutionState.IN_PROGRESS for _, _, state in rows),
        assigned=known.assigned_version,
        obeyed=obeyed,
    )


def desired(session: Session, device_id: str) -> dict[str, str]:
    """Return the digest by alias that a device should run, or is on its way to."""
    rows = session.connection().execute(_DESIRED, {"device": device_id})
    return {alias: digest for alias, digest, _ in rows}


def judge(
    *,
    desired: Mapping[str, str],
    running: Mapping[str, str],
    is_open: bool,
    assigned: int | None,
    obeyed: int,
) -> DeviceState:
    """Return how a device stands to its assignment. Pure.

    Args:
        desired: Digest by alias that it should run.
        running: Digest by alias that it says it runs.
        is_open: An execution towards `desired` is under way.
        assigned: Version of its newest assignment; None if there is none.
        obeyed: Version that it says it obeys.
    """
    if assigned is None:
        return DeviceState.REGISTERED
    if running == desired and not is_open:
        return DeviceState.IN_SYNC
    return DeviceState.PENDING if is_open or obeyed < assigned else DeviceState.ERROR
