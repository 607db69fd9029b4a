"""What gates judge a group by, out of the rows: a bounded choice of devices of each hardware class.

Of a class that has more devices than `MOST_OF_CLASS`, those whose names come first are read, which
says nothing of how they measure; crashes are counted over all of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy
from sprat_proto import manifest
from sprat_proto.states import ExecutionState
from sqlalchemy import RowMapping
from sqlalchemy.orm import Mapped
from sqlmodel import Session, col, func

from sprat_controller.rollout.gates import rules
from sprat_controller.rollout.gates.judgement import Judgement
from sprat_controller.rollout.gates.measures import NOTHING, ClassFacts, Measures, Sample
from sprat_controller.rollout.strategy import Gate
from sprat_controller.store.tables import (
    DesiredModel,
    Device,
    Execution,
    ObservedMetric,
    Rollout,
    RolloutGroup,
    Variant,
)

MOST_OF_CLASS: Final = 1000
_AT_ONCE: Final = 500  # names in one statement
# These brought nothing to their device, or are not judged.
_UNJUDGED: Final = (ExecutionState.CANCELED, ExecutionState.REMOVED, ExecutionState.REJECTED)
_PROVED: Final = (ExecutionState.SUCCEEDED.value, ExecutionState.IN_PROGRESS.value)
_MEASURES: Final = tuple(Measures.__struct_fields__)


@dataclass(frozen=True)
class _Group:
    rollout_id: str
    number: int
    alias: str
    model: str
    release: str


@dataclass(frozen=True)
class _Counted:
    devices: int
    crashes: int
    most_crashes: int


def judge(session: Session, rollout_id: str, number: int, gate: Gate) -> Judgement:
    """Return what a gate says of a group now.

    Args:
        session: For reading.
        rollout_id: Whose group; it is there.
        number: `rollout_group.number`.
        gate: What is asked.
    """
    return rules.judge(gate, of_group(session, rollout_id, number))


def rejudge(session: Session, rollout_id: str, gated: Mapping[int, Gate]) -> dict[int, Judgement]:
    """Judge groups anew and keep what their gates say.

    Args:
        session: A transaction in which the rollout is held.
        rollout_id: Whose groups.
        gated: The gate of each group that runs or soaks and has one, by number.
    """
    found = {number: judge(session, rollout_id, number, gate) for number, gate in gated.items()}
    for number, one in found.items():
        is_it = (col(RolloutGroup.rollout_id) == rollout_id) & (col(RolloutGroup.number) == number)
        kept = sqlalchemy.update(RolloutGroup).where(is_it).values(verdict=one.as_json())
        session.connection().execute(kept)
    return found


def of_group(session: Session, rollout_id: str, number: int) -> dict[str, ClassFacts]:
    """Return the facts of each hardware class of the group.

    Devices count that have succeeded or may still, or that told something of the candidate since
    they were given it. So those that come first do not speak for all.
    """
    group = _group(session, rollout_id, number)
    counted = _counted(session, group)
    told = _told(session, group)
    others = _others(session, group, list(counted))
    in_all = _others_in_all(session, group) if counted else {}
    scored = _scored(session, group)
    return {
        name: ClassFacts(
            devices=one.devices,
            told=told.get(name, ()),
            others=others.get(name, ()),
            others_in_all=in_all.get(name, 0),
            crashes=one.crashes,
            most_crashes=one.most_crashes,
            is_scored=scored.get(name, False),
        )
        for name, one in counted.items()
    }


def _group(session: Session, rollout_id: str, number: int) -> _Group:
    row = session.connection().execute(
        sqlalchemy.select(col(Rollout.alias), col(Rollout.model), col(Rollout.release)).where(
            col(Rollout.id) == rollout_id
        )
    )
    return _Group(rollout_id, number, *row.one())


def _given(group: _Group) -> sqlalchemy.ColumnElement[bool]:
    """Return the condition of executions in the group that were given out and are judged."""
    return sqlalchemy.and_(
        col(Execution.rollout_id) == group.rollout_id,
        col(Execution.group_number) == group.number,
        col(Execution.started_at).is_not(None),
        col(Execution.excused_at).is_(None),
        col(Execution.is_reverting).is_(False),
        col(Execution.state).not_in([one.value for one in _UNJUDGED]),
    )


def _queued(group: _Group) -> sqlalchemy.ColumnElement[bool]:
    """Return the condition of executions in the group that wait for their turn."""
    return sqlalchemy.and_(
        col(Execution.rollout_id) == group.rollout_id,
        col(Execution.group_number) == group.number,
        col(Execution.state) == ExecutionState.QUEUED.value,
        col(Execution.excused_at).is_(None),
    )


def _of_candidate() -> sqlalchemy.ColumnElement[bool]:
    """Return the condition of rows that tell of an execution's variant, since it was given out."""
    return sqlalchemy.and_(
        col(ObservedMetric.device_id) == col(Execution.device_id),
        col(ObservedMetric.digest) == col(Execution.digest),
        col(ObservedMetric.told_at) >= col(Execution.started_at),
    )


def _of_release(group: _Group) -> sqlalchemy.ColumnElement[bool]:
    return (col(Variant.model) == group.model) & (col(Variant.release) == group.release)


def _counted(session: Session, group: _Group) -> dict[str, _Counted]:
    lost = col(ObservedMetric.crashes) + col(ObservedMetric.fallbacks)
    is_told = col(ObservedMetric.digest).is_not(None)
    is_proved = col(Execution.state).in_(_PROVED)
    rows = session.connection().execute(
        sqlalchemy.select(
            col(Execution.hardware_class), func.count(), func.sum(lost), func.max(lost)
        )
        .select_from(Execution)
        .outerjoin(ObservedMetric, _of_candidate())
        .where(sqlalchemy.or_(_given(group) & (is_proved | is_told), _queued(group)))
        .group_by(col(Execution.hardware_class))
    )
    return {
        name: _Counted(devices, int(crashes or 0), int(most or 0))
        for name, devices, crashes, most in rows
    }


def _told(session: Session, group: _Group) -> dict[str, list[Sample]]:
    place = _place(col(Execution.hardware_class), col(Execution.device_id))
    ranked = (
        sqlalchemy.select(
            col(Execution.device_id),
            _as("of_class", col(Execution.hardware_class)),
            place.label("place"),
            *_columns(),
        )
        .join(ObservedMetric, _of_candidate())
        .where(_given(group))
        .subquery()
    )
    found = session.connection().execute(
        sqlalchemy.select(ranked).where(ranked.c.place <= MOST_OF_CLASS)
    )
    rows = found.mappings().all()
    before = _before(session, group, [row["device_id"] for row in rows])
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    for row in rows:
        own = before.get(row["device_id"], NOTHING)
        samples[row["of_class"]].append(Sample(_measures(row), own))
    return samples


def _before(session: Session, group: _Group, devices: Sequence[str]) -> dict[str, Measures]:
    """Return what each device measured with the other release that it told of last."""
    found: dict[str, Measures] = {}
    for start in range(0, len(devices), _AT_ONCE):
        rows = session.connection().execute(
            sqlalchemy.select(col(ObservedMetric.device_id), *_columns())
            .join(Variant, col(Variant.digest) == col(ObservedMetric.digest))
            .where(
                col(ObservedMetric.device_id).in_(devices[start : start + _AT_ONCE]),
                col(ObservedMetric.alias) == group.alias,
                sqlalchemy.not_(_of_release(group)),
            )
            .order_by(col(ObservedMetric.told_at).desc(), col(ObservedMetric.digest))
        )
        for row in rows.mappings():
            found.setdefault(row["device_id"], _measures(row))
    return found


def _others(session: Session, group: _Group, classes: Sequence[str]) -> dict[str, list[Measures]]:
    """Return what devices outside the group measured with what most of their class ran before."""
    place = _place(
        col(ObservedMetric.hardware_class),
        col(ObservedMetric.device_id),
        col(ObservedMetric.told_at).desc(),
    )
    ranked = (
        sqlalchemy.select(
            col(ObservedMetric.device_id),
            _as("of_class", col(ObservedMetric.hardware_class)),
            col(ObservedMetric.digest),
            place.label("place"),
            *_columns(),
        )
        .join(Variant, col(Variant.digest) == col(ObservedMetric.digest))
        .join(Device, col(Device.id) == col(ObservedMetric.device_id))
        .where(
            col(ObservedMetric.alias) == group.alias,
            col(ObservedMetric.hardware_class).in_(classes),
            col(Device.revoked_at).is_(None),
            sqlalchemy.not_(_of_release(group)),
            _is_outside(group, col(ObservedMetric.device_id)),
        )
        .subquery()
    )
    rows = session.connection().execute(
        sqlalchemy.select(ranked)
        .where(ranked.c.place <= MOST_OF_CLASS)
        .order_by(ranked.c.of_class, ranked.c.place)
    )
    newest: dict[tuple[str, str], RowMapping] = {}
    for row in rows.mappings():
        newest.setdefault((row["of_class"], row["device_id"]), row)
    return _of_most(newest.values())


def _of_most(rows: Iterable[RowMapping]) -> dict[str, list[Measures]]:
    by_class: defaultdict[str, list[RowMapping]] = defaultdict(list)
    for row in rows:
        by_class[row["of_class"]].append(row)
    found: dict[str, list[Measures]] = {}
    for name, of_class in by_class.items():
        counts = Counter(str(row["digest"]) for row in of_class)
        most = min(counts, key=lambda digest: (-counts[digest], digest))
        found[name] = [_measures(row) for row in of_class if row["digest"] == most]
    return found


def _others_in_all(session: Session, group: _Group) -> dict[str, int]:
    """Return how many devices of each class outside the group run another release."""
    rows = session.connection().execute(
        sqlalchemy.select(func.coalesce(col(Device.hardware_class), ""), func.count())
        .select_from(DesiredModel)
        .join(Device, col(Device.id) == col(DesiredModel.device_id))
        .join(Variant, col(Variant.digest) == col(DesiredModel.digest))
        .where(
            col(DesiredModel.alias) == group.alias,
            col(Device.revoked_at).is_(None),
            sqlalchemy.not_(_of_release(group)),
            _is_outside(group, col(DesiredModel.device_id)),
        )
        .group_by(col(Device.hardware_class))
    )
    return {str(name): int(count) for name, count in rows}


def _is_outside(group: _Group, device: Mapped[str]) -> sqlalchemy.ColumnElement[bool]:
    inside = (
        sqlalchemy.select(col(Execution.id))
        .where(
            col(Execution.rollout_id) == group.rollout_id,
            col(Execution.group_number) == group.number,
            col(Execution.device_id) == device,
            col(Execution.started_at).is_not(None),
        )
        .exists()
    )
    return sqlalchemy.not_(inside)


def _scored(session: Session, group: _Group) -> dict[str, bool]:
    """Tell of which classes every candidate has golden prompts."""
    connection = session.connection()
    pairs = connection.execute(
        sqlalchemy.select(col(Execution.hardware_class), col(Execution.digest))
        .where(_given(group))
        .distinct()
    ).all()
    manifests = connection.execute(
        sqlalchemy.select(col(Variant.digest), col(Variant.manifest)).where(_of_release(group))
    )
    probed = {digest: bool(manifest.decode(body).activation.probe) for digest, body in manifests}
    found: dict[str, bool] = {}
    for name, digest in pairs:
        found[name] = found.get(name, True) and probed.get(digest or "", False)
    return found


def _place(
    of_class: Mapped[str], *order: sqlalchemy.ColumnElement[Any] | Mapped[Any]
) -> sqlalchemy.ColumnElement[int]:
    """Return the number of a row in its class, from 1."""
    return func.row_number().over(partition_by=of_class, order_by=order)


def _as(name: str, column: Mapped[Any]) -> sqlalchemy.ColumnElement[Any]:
    return column.label(name)


def _columns() -> list[sqlalchemy.ColumnElement[Any]]:
    return [_as(name, col(getattr(ObservedMetric, name))) for name in _MEASURES]


def _measures(row: RowMapping) -> Measures:
    return Measures(**{name: row[name] for name in _MEASURES})
