"""What a device runs is held against what explains it; the rows of `fallbacks`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy
from sqlmodel import col

from sprat_controller.audit import log
from sprat_controller.audit.tags import Tag
from sprat_controller.fleet import observed_metrics
from sprat_controller.link import fallbacks, known
from sprat_controller.link.fallbacks import Account, Ended, Fallback
from sprat_controller.link.inbound import RunningJson
from sprat_controller.link.known import Hearing, Reply
from sprat_controller.rollout.records import wake
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
    bound = sqlalchemy.select(col(DesiredModel.rollout_id)).where(
        col(DesiredModel.device_id) == device_id, col(DesiredModel.alias) == one.alias
    )
    rollout_id = session.connection().execute(bound).scalar()
    if rollout_id is not None:
        wake(session, rollout_id, hearing.now)


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
        detail=asdict(what),
    )
