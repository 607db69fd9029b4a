"""What is known of the devices, and what people may change: their labels, and removing one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sql
from sprat_proto.audit_events import Tag
from sprat_proto.states import DeviceState
from sqlmodel import Session, col

from sprat_controller.access import within
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.audit import changes, log
from sprat_controller.errors import ConflictError, DeniedError, NotFoundError, RequestError
from sprat_controller.fleet import observed_metrics, observed_rates, target_filter
from sprat_controller.fleet.filters import queries
from sprat_controller.fleet.filters.fields import LABEL_KEY, Facts
from sprat_controller.rollout.records import UNFINISHED, wake
from sprat_controller.store.tables import AssignmentRow, Device, DeviceLabel, Execution

MAX_LABELS: Final = 64
_VALUE: Final = re.compile(r"[^\s=\x00-\x1f\x7f](?:[^=\x00-\x1f\x7f]{0,126}[^\s=\x00-\x1f\x7f])?")
# Of a removed device nothing is listed, but its page and its audit stay.
_SHOWN: Final = (
    "id",
    "state",
    "online",
    "carrier",
    "last_seen_at",
    "enrolled_at",
    "revoked_at",
    "quarantined_at",
    "group",
    "agent_version",
    "hardware_class",
    "simulated",
    "running",
)
_SHOWN_OF_EXECUTION: Final = (
    "id",
    "rollout_id",
    "state",
    "step",
    "digest",
    "reason",
    "started_at",
    "updated_at",
    "finished_at",
)
_LATEST_EXECUTIONS: Final = 20

Row = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Which devices to list: those that meet all of it."""

    state: DeviceState | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    filter: str = ""  # in the words of `target_filter`
    within: Scope = EVERYTHING  # of whoever asks


def page(session: Session, wanted: Wanted, *, after: str, limit: int) -> list[Row]:
    """Return devices in the order of their names, at most `limit`, from behind `after`.

    Columns, not entities: a page of 1,000 is read in a few milliseconds (measured in tests/bench).

    Raises:
        FilterError: What is wanted has a filter that is none.
    """
    statement = (
        sql.select(*_columns("device", _SHOWN))
        .where(
            col(Device.revoked_at).is_(None),
            col(Device.id) > after,
            within.devices(session, wanted.within),
        )
        .order_by(col(Device.id))
        .limit(limit)
    )
    if wanted.state is not None:
        statement = statement.where(col(Device.state) == wanted.state.value)
    for key, value in wanted.labels.items():
        labelled = sql.select(col(DeviceLabel.device_id)).where(
            col(DeviceLabel.key) == key, col(DeviceLabel.value) == value
        )
        statement = statement.where(col(Device.id).in_(labelled))
    if wanted.filter:
        tree = target_filter.parse(wanted.filter)
        statement = statement.where(queries.where(session, tree))
    rows = [dict(row) for row in session.connection().execute(statement).mappings()]
    labels = _labels(session, [row["id"] for row in rows])
    return [row | {"labels": labels.get(row["id"], {})} for row in rows]


def find(session: Session, device_id: str, scope: Scope = EVERYTHING) -> Device:
    """Return a device, also one that was removed; one outside of the scope is not there.

    Raises:
        NotFoundError: No such device.
    """
    device = session.get(Device, device_id)
    if device is None or not _is_within(session, device, scope):
        raise unknown(device_id)
    return device


def is_there(session: Session, device_id: str, scope: Scope) -> bool:
    """Tell whether there is such a device in a scope."""
    device = session.get(Device, device_id)
    return device is not None and _is_within(session, device, scope)


def unknown(device_id: str) -> NotFoundError:
    """Return the refusal of a device that is not there, or not for whom asks."""
    return NotFoundError("device_not_found", f"there is no device named {device_id!r}")


def show(session: Session, device_id: str, scope: Scope = EVERYTHING) -> Row:
    """Return all that is known of a device.

    Raises:
        NotFoundError: No such device.
    """
    device = find(session, device_id, scope)
    assignment = session.get(AssignmentRow, device_id)
    return {
        **{name: getattr(device, name) for name in _SHOWN},
        "labels": _labels(session, [device_id]).get(device_id, {}),
        "quarantine_reason": device.quarantine_reason,
        "hardware_id": device.hardware_id,
        "certificate_serial": device.serial,
        "certificate_ends_at": device.certificate_ends_at,
        "capability": device.capability,
        "profile": device.profile,
        "assignment_version": assignment.version if assignment else 0,
        "obeyed_version": device.obeyed_version,
        "fallbacks": device.fallbacks or {},
        "observed": observed_rates.of_device(session, device),
        "metrics": observed_metrics.of_device(session, device_id),
        "executions": _latest_executions(session, device_id),
    }


def simulated(session: Session, rollout_id: str) -> set[str]:
    """Return the devices of a rollout whose hardware is only declared."""
    statement = (
        sql.select(col(Device.id))
        .join(Execution, col(Execution.device_id) == col(Device.id))
        .where(col(Execution.rollout_id) == rollout_id, col(Device.simulated).is_(True))
    )
    return set(session.connection().execute(statement).scalars())


def digest_of(device: Device, labels: Mapping[str, str]) -> str:
    """Return the digest by which records tell what people said of a device: group and labels."""
    return changes.digest({"group": device.group, "labels": dict(labels)})


def relabel(
    session: Session,
    device_id: str,
    labels: Mapping[str, str],
    *,
    actor: str,
    now: datetime,
    scope: Scope = EVERYTHING,
) -> None:
    """Replace the labels of a device; it does not leave the scope by that.

    Raises:
        NotFoundError: No such device in the scope.
        RequestError: `bad_label`.
        DeniedError: `outside_scope`: with these labels it would not be in it any more.
    """
    check_labels(labels)
    device = find(session, device_id, scope)
    if not scope.covers(Facts(device.id, dict(labels), group=device.group)):
        raise DeniedError(
            "outside_scope",
            f"expected labels that leave {device.id} within {scope.text}, found others: ask"
            " somebody who may change devices where it would be",
        )
    before = _labels(session, [device.id]).get(device.id, {})
    if before == dict(labels):
        return
    of_device = sql.delete(DeviceLabel).where(col(DeviceLabel.device_id) == device.id)
    session.connection().execute(of_device)
    for key, value in labels.items():
        session.add(DeviceLabel(device_id=device.id, key=key, value=value))
    detail = {"from": before, "to": dict(labels)}
    subject = f"device/{device.id}"
    log.append(
        session,
        Tag.DEVICE_LABELLED,
        at=now,
        actor=actor,
        subject=subject,
        before=digest_of(device, before),
        after=digest_of(device, labels),
        detail=detail,
    )


def remove(
    session: Session,
    device_id: str,
    *,
    actor: str,
    now: datetime,
    scope: Scope = EVERYTHING,
) -> None:
    """Revoke a device: it is never spoken to again; a second time changes nothing.

    Its unfinished executions are ended by the planner, which is woken for them.

    Raises:
        NotFoundError: No such device.
    """
    device = find(session, device_id, scope)
    if device.revoked_at is not None:
        return
    device.revoked_at, device.online, device.carrier = now, False, None
    device.state = DeviceState.UNKNOWN.value
    log.append(
        session,
        Tag.DEVICE_REMOVED,
        at=now,
        actor=actor,
        subject=f"device/{device.id}",
        before=digest_of(device, _labels(session, [device.id]).get(device.id, {})),
    )
    session.flush()
    unfinished = sql.select(col(Execution.rollout_id)).where(
        col(Execution.device_id) == device.id, col(Execution.state).in_(UNFINISHED)
    )
    for rollout_id in session.connection().execute(unfinished).scalars().all():
        wake(session, rollout_id, now)


def release(
    session: Session,
    device_id: str,
    *,
    accept_older: bool,
    actor: str,
    now: datetime,
    scope: Scope = EVERYTHING,
) -> None:
    """End a device's quarantine; a second time changes nothing.

    Args:
        session: An open `Database.transaction()`.
        device_id: Which device.
        accept_older: Let its next renewal follow any of its certificates: for the true device after
            a copy of it renewed, once the copy is out of the world.
        actor: Who decides.
        now: The caller's clock.
        scope: Of who decides; outside of it no device is there.

    Raises:
        NotFoundError: No such device.
        ConflictError: `device_removed`.
    """
    device = find(session, device_id, scope)
    if device.revoked_at is not None:
        raise ConflictError("device_removed", f"{device.id} was removed: it does not come back")
    if device.quarantined_at is None and device.may_renew_from_any == accept_older:
        return
    detail = {"reason": device.quarantine_reason or "", "accept_older": accept_older}
    device.quarantined_at = device.quarantine_reason = None
    device.may_renew_from_any = accept_older
    # What is said of a copy from now on is said anew.
    device.former_boots = device.audit_forked_at = None
    subject = f"device/{device.id}"
    log.append(
        session,
        Tag.DEVICE_RELEASED,
        at=now,
        actor=actor,
        subject=subject,
        before=str(detail["reason"] or "none"),
        after="none",
        detail=detail,
    )


def check_labels(labels: Mapping[str, str]) -> None:
    """Check keys and values as they may be asked for in a list.

    Raises:
        RequestError: `bad_label`.
    """
    if len(labels) > MAX_LABELS:
        raise RequestError(
            "bad_label", f"expected at most {MAX_LABELS} labels on a device, found {len(labels)}"
        )
    for key, value in labels.items():
        if LABEL_KEY.fullmatch(key) is None:
            raise RequestError(
                "bad_label",
                "expected a label's key of letters, digits and ._/- (at most 63, a letter or digit"
                f" first), found {key[:80]!r}",
            )
        if _VALUE.fullmatch(value) is None:
            raise RequestError(
                "bad_label",
                f"expected the label {key} to have a value of 1-128 printable characters without"
                f" '=', found {value[:140]!r}",
            )


def parse_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Read `key=value` as a list asks for them.

    Raises:
        RequestError: `bad_label`, also if a key is asked for with two values.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or found.get(key, value) != value:
            raise RequestError(
                "bad_label", f"expected one label=KEY=VALUE for each key, found {pair[:200]!r}"
            )
        found[key] = value
    check_labels(found)
    return found


def _is_within(session: Session, device: Device, scope: Scope) -> bool:
    if scope.is_everything:
        return True
    labels = _labels(session, [device.id]).get(device.id, {})
    return scope.covers(Facts(device.id, labels, group=device.group))


def _labels(session: Session, device_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    statement = (
        sql.select(col(DeviceLabel.device_id), col(DeviceLabel.key), col(DeviceLabel.value))
        .where(col(DeviceLabel.device_id).in_(device_ids))
        .order_by(col(DeviceLabel.device_id), col(DeviceLabel.key))
    )
    found: dict[str, dict[str, str]] = {}
    for device_id, key, value in session.connection().execute(statement):
        found.setdefault(device_id, {})[key] = value
    return found


def _latest_executions(session: Session, device_id: str) -> list[Row]:
    statement = (
        sql.select(*_columns("execution", _SHOWN_OF_EXECUTION))
        .where(col(Execution.device_id) == device_id)
        .order_by(col(Execution.created_at).desc(), col(Execution.id).desc())
        .limit(_LATEST_EXECUTIONS)
    )
    return [dict(row) for row in session.connection().execute(statement).mappings()]


def _columns(table: str, names: Sequence[str]) -> list[sql.Column[Any]]:
    columns = Device.metadata.tables[table].c
    return [columns[name] for name in names]
