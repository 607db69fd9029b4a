"""What requests and probes showed of variants on devices: kept for gates, the newest of each.

A device may be broken or lie. So only what it was given counts, a bounded number of variants is
kept for each device, and `rollout.gates` judges by medians. Rows stay quiet: what hardly changed is
not written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final

import sqlalchemy
from sqlmodel import Session, col

from sprat_controller.store.tables import DesiredModel, Device, ObservedMetric, Variant

MOST_OF_DEVICE: Final = 32  # variants that are kept for one device, the newest
_NOTICED: Final = 50  # a measure is news when it differs by one part in so many
_MORE: Final = 8  # and a count, when it grew by one part in so many
_MOST: Final = (1 << 31) - 1  # of a column
# What was seen once and not since the agent's last start is not forgotten.
_STAYS: Final = frozenset({"decode_milli_tps", "ttft_p95_ms", "peak_bytes", "declared_bytes"})
_REQUESTS: Final = ("requests", "errors")
_UNTOLD: Final[dict[str, Any]] = {
    "window_s": 0,
    "requests": 0,
    "errors": 0,
    "decode_milli_tps": 0,
    "ttft_p95_ms": 0,
    "peak_bytes": 0,
    "declared_bytes": 0,
    "crashes": 0,
    "fallbacks": 0,
    "prompts": 0,
    "score_permille": 0,
    "probed_decode_milli_tps": 0,
    "probed_ttft_ms": 0,
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a device told of one variant, within limits; see the message `ModelMetrics`."""

    digest: str
    alias: str
    window_s: int
    requests: int = 0
    errors: int = 0
    decode_milli_tps: int = 0
    ttft_p95_ms: int = 0
    peak_bytes: int = 0
    declared_bytes: int = 0
    crashes: int = 0


# Made once: thousands of devices tell something every minute.
_KEPT: Final = sqlalchemy.select(
    *(col(getattr(ObservedMetric, one.name)) for one in fields(Told))
).where(col(ObservedMetric.device_id) == sqlalchemy.bindparam("device"))


def keep(session: Session, device_id: str, told: Sequence[Told], now: datetime) -> None:
    """Keep what a device told, if it is news, of what it is or was to run.

    Args:
        session: A transaction in which the device's row is held.
        device_id: Whose.
        told: Within limits, each digest once.
        now: The caller's clock.
    """
    if not told:
        return
    before = _kept(session, device_id)
    news = [one for one in told if _is_news(before.get(one.digest), one)]
    if not news:
        return
    desired = _desired(session, device_id)
    for one in news:
        if one.digest in before or one.digest in desired:
            values = _values(before.get(one.digest), one)
            _write(session, device_id, (one.alias, one.digest), values, now)
    _forget_oldest(session, device_id)


def keep_probe(
    session: Session,
    device_id: str,
    what: tuple[str, str],
    found: Mapping[str, int],
    now: datetime,
) -> None:
    """Keep what a device's probe measured of a candidate.

    Args:
        session: A transaction in which the device's row is held.
        device_id: Whose.
        what: The alias, and the digest that was assigned under it.
        found: Figures by the names of `probes.ProbeResult`; cut to what a row holds.
        now: The caller's clock.
    """
    values = {
        "prompts": min(found["prompts"], _MOST),
        "score_permille": min(found["score_permille"], 1000),
        "probed_decode_milli_tps": min(found["decode_milli_tps"], _MOST),
        "probed_ttft_ms": min(found["ttft_ms"], _MOST),
    }
    _write(session, device_id, what, values, now)
    _forget_oldest(session, device_id)


def note_fallback(session: Session, device_id: str, what: tuple[str, str], now: datetime) -> None:
    """Count that a device went back from a variant without a word.

    Args:
        session: A transaction in which the device's row is held.
        device_id: Whose.
        what: The alias, and the digest that it should run.
        now: The caller's clock.
    """
    digest = what[1]
    connection = session.connection()
    known = sqlalchemy.select(sqlalchemy.exists().where(col(Variant.digest) == digest))
    if not connection.execute(known).scalar():
        return  # it was here before this controller knew of it
    kept = sqlalchemy.select(col(ObservedMetric.fallbacks)).where(*_key(device_id, digest))
    before = connection.execute(kept).scalar() or 0
    _write(session, device_id, what, {"fallbacks": before + 1}, now)


def of_device(session: Session, device_id: str) -> list[dict[str, Any]]:
    """Return what is kept of a device, the newest first."""
    names = ("digest", "alias", *_UNTOLD, "told_at")
    rows = session.connection().execute(
        sqlalchemy.select(
            *(col(getattr(Variant, name)) for name in ("model", "release", "variant")),
            *(col(getattr(ObservedMetric, name)) for name in names),
        )
        .join(Variant, col(Variant.digest) == col(ObservedMetric.digest))
        .where(col(ObservedMetric.device_id) == device_id)
        .order_by(col(ObservedMetric.told_at).desc(), col(ObservedMetric.digest))
    )
    return [dict(row) for row in rows.mappings()]


def _kept(session: Session, device_id: str) -> dict[str, Told]:
    rows = session.connection().execute(_KEPT, {"device": device_id})
    return {row[0]: Told(*row) for row in rows}


def _is_news(before: Told | None, told: Told) -> bool:
    if before is None or told.alias != before.alias or told.crashes != before.crashes:
        return True
    counts = any(_grew(getattr(before, name), getattr(told, name)) for name in _REQUESTS)
    # The agent was started anew, or was given the variant again: gates ask when it told last.
    restarted = told.window_s < before.window_s or 0 < told.requests < before.requests
    measures = any(_differs(getattr(before, name), getattr(told, name)) for name in _STAYS)
    return counts or restarted or measures


def _grew(before: int, now: int) -> bool:
    return (now - before) * _MORE > before


def _differs(before: int, now: int) -> bool:
    return now != 0 and abs(now - before) * _NOTICED > before


def _values(before: Told | None, told: Told) -> dict[str, Any]:
    """Return what changes: no requests in a new window do not replace those of the one before."""
    values = {name: number for name, number in asdict(told).items() if name in _UNTOLD}
    values = {name: number for name, number in values.items() if number or name not in _STAYS}
    if before is not None and before.requests and not told.requests:
        values = {name: number for name, number in values.items() if name not in _REQUESTS}
    return values


def _desired(session: Session, device_id: str) -> set[str]:
    wanted = sqlalchemy.select(col(DesiredModel.digest)).where(
        col(DesiredModel.device_id) == device_id
    )
    return set(session.connection().execute(wanted).scalars())


def _write(
    session: Session, device_id: str, what: tuple[str, str], values: dict[str, Any], now: datetime
) -> None:
    alias, digest = what
    connection = session.connection()
    of_device = sqlalchemy.select(col(Device.hardware_class)).where(col(Device.id) == device_id)
    hardware_class = connection.execute(of_device).scalar() or ""
    values = {**values, "alias": alias, "hardware_class": hardware_class, "told_at": now}
    update = sqlalchemy.update(ObservedMetric).where(*_key(device_id, digest)).values(**values)
    if connection.execute(update).rowcount == 0:
        key = {"device_id": device_id, "digest": digest}
        connection.execute(sqlalchemy.insert(ObservedMetric), {**_UNTOLD, **values, **key})


def _key(device_id: str, digest: str) -> tuple[sqlalchemy.ColumnElement[bool], ...]:
    return col(ObservedMetric.device_id) == device_id, col(ObservedMetric.digest) == digest


def _forget_oldest(session: Session, device_id: str) -> None:
    of_device = col(ObservedMetric.device_id) == device_id
    newest = (
        sqlalchemy.select(col(ObservedMetric.digest))
        .where(of_device)
        .order_by(col(ObservedMetric.told_at).desc(), col(ObservedMetric.digest))
        .limit(MOST_OF_DEVICE)
    )
    older = sqlalchemy.delete(ObservedMetric).where(
        of_device, col(ObservedMetric.digest).not_in(newest.scalar_subquery())
    )
    session.connection().execute(older)
