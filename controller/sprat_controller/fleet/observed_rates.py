"""How fast devices were seen to answer, variant by variant: kept, and the medians of their classes.

A device may be broken or lie. So only rates of what it was given count, a few of them are kept for
each device, and those of a hardware class are medians: one device among many moves them little.
Simulated devices have no rates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median_low
from typing import Any, Final

import sqlalchemy
from sprat_proto.rates import Basis, Rates
from sqlmodel import Session, col

from sprat_controller.store.tables import DesiredModel, Device, ObservedRate, Variant

MOST_OF_DEVICE: Final = 32  # variants whose rates are kept for one device, the newest
_NOTICED: Final = 50  # a rate is kept anew when it differs by one part in so many: rows stay quiet


@dataclass(frozen=True)
class Told:
    """Medians that a device told of one variant, in thousandths of a token a second; 0: not yet."""

    digest: str
    decode_milli_tps: int
    prefill_milli_tps: int
    samples: int


@dataclass(frozen=True)
class ClassRates:
    """What the devices of a hardware class were seen to do with a variant."""

    rates: Rates
    devices: int  # whose decoding rates these are the median of


@dataclass
class _Seen:
    decode: list[int] = field(default_factory=list[int])
    prefill: list[int] = field(default_factory=list[int])


def medians(rows: Iterable[tuple[str, str, int, int]]) -> Mapping[str, Mapping[str, ClassRates]]:
    """Return the medians by hardware class and digest. Pure.

    Args:
        rows: Hardware class, digest, decoding and prompt rate of each device; 0: not yet.
    """
    seen: defaultdict[tuple[str, str], _Seen] = defaultdict(_Seen)
    for hardware_class, digest, decode, prefill in rows:
        one = seen[hardware_class, digest]
        one.decode += [decode] if decode else []
        one.prefill += [prefill] if prefill else []
    found: defaultdict[str, dict[str, ClassRates]] = defaultdict(dict)
    for (hardware_class, digest), one in seen.items():
        if one.decode:  # without it nothing is known that counts
            prefill = median_low(one.prefill) if one.prefill else 0
            rates = Rates(Basis.OBSERVED, median_low(one.decode), prefill)
            found[hardware_class][digest] = ClassRates(rates, len(one.decode))
    return found


def of_release(session: Session, model: str, release: str) -> Mapping[str, Mapping[str, Rates]]:
    """Return the medians of all variants of a release, by hardware class and digest."""
    rows = _rows(session, (col(Variant.model) == model) & (col(Variant.release) == release))
    return {
        hardware_class: {digest: one.rates for digest, one in of_class.items()}
        for hardware_class, of_class in medians(rows).items()
    }


def of_device(session: Session, device: Device) -> list[dict[str, Any]]:
    """Return what a device was seen to do, the newest first, beside its class."""
    rows = session.connection().execute(
        sqlalchemy.select(
            *(col(Variant.model), col(Variant.release), col(Variant.variant)),
            *(col(ObservedRate.digest), col(ObservedRate.decode_milli_tps)),
            *(col(ObservedRate.prefill_milli_tps), col(ObservedRate.samples)),
            col(ObservedRate.told_at),
        )
        .join(Variant, col(Variant.digest) == col(ObservedRate.digest))
        .where(col(ObservedRate.device_id) == device.id)
        .order_by(col(ObservedRate.told_at).desc(), col(ObservedRate.digest))
    )
    found = [dict(row) for row in rows.mappings()]
    digests = [one["digest"] for one in found]
    among = medians(_rows(session, col(Variant.digest).in_(digests)) if digests else ())
    of_class = among.get(device.hardware_class or "", {})
    return [{**one, **_beside(of_class.get(one["digest"]))} for one in found]


def keep(session: Session, device_id: str, told: Sequence[Told], now: datetime) -> None:
    """Keep what a device told, if it is news, of what the device is to run.

    Args:
        session: A transaction in which the device's row is held.
        device_id: Of hardware that is measured.
        told: Within limits, each digest once.
        now: The caller's clock.
    """
    if not told:
        return
    before = _kept(session, device_id)
    news = [one for one in told if _is_news(before.get(one.digest), one)]
    if not news:
        return
    connection = session.connection()
    of_device = sqlalchemy.select(col(Device.hardware_class)).where(col(Device.id) == device_id)
    wanted = sqlalchemy.select(col(DesiredModel.digest)).where(
        col(DesiredModel.device_id) == device_id
    )
    hardware_class = connection.execute(of_device).scalar()
    desired = set(connection.execute(wanted).scalars())
    for one in news:
        if hardware_class is not None and one.digest in desired:
            _write(session, (device_id, hardware_class), one, now)
    _forget_oldest(session, device_id)


def _is_news(before: Told | None, told: Told) -> bool:
    if before is None:
        return True
    return _differs(before.decode_milli_tps, told.decode_milli_tps) or _differs(
        before.prefill_milli_tps, told.prefill_milli_tps
    )


def _differs(before: int, now: int) -> bool:
    """Tell whether a rate is another one; what was seen once and not since still counts."""
    return now != 0 and abs(now - before) * _NOTICED > before


def _kept(session: Session, device_id: str) -> dict[str, Told]:
    rows = session.connection().execute(
        sqlalchemy.select(
            col(ObservedRate.digest),
            col(ObservedRate.decode_milli_tps),
            col(ObservedRate.prefill_milli_tps),
            col(ObservedRate.samples),
        ).where(col(ObservedRate.device_id) == device_id)
    )
    return {row[0]: Told(*row) for row in rows}


def _write(session: Session, who: tuple[str, str], one: Told, now: datetime) -> None:
    device_id, hardware_class = who
    key = {"device_id": device_id, "digest": one.digest}
    same = [col(getattr(ObservedRate, name)) == value for name, value in key.items()]
    known = {
        "decode_milli_tps": one.decode_milli_tps,
        "prefill_milli_tps": one.prefill_milli_tps,
    }
    # A rate that it has not seen since its last start is not forgotten.
    values: dict[str, Any] = {name: rate for name, rate in known.items() if rate}
    values |= {"samples": one.samples, "hardware_class": hardware_class, "told_at": now}
    connection = session.connection()
    update = sqlalchemy.update(ObservedRate).where(*same).values(**values)
    if connection.execute(update).rowcount == 0:
        connection.execute(sqlalchemy.insert(ObservedRate), {**known, **values, **key})


def _forget_oldest(session: Session, device_id: str) -> None:
    of_device = col(ObservedRate.device_id) == device_id
    newest = (
        sqlalchemy.select(col(ObservedRate.digest))
        .where(of_device)
        .order_by(col(ObservedRate.told_at).desc(), col(ObservedRate.digest))
        .limit(MOST_OF_DEVICE)
    )
    older = sqlalchemy.delete(ObservedRate).where(
        of_device, col(ObservedRate.digest).not_in(newest.scalar_subquery())
    )
    session.connection().execute(older)


def _rows(
    session: Session, which: sqlalchemy.ColumnElement[bool]
) -> Iterable[tuple[str, str, int, int]]:
    """Return the rates of all devices that were not removed, for some variants."""
    rows = session.connection().execute(
        sqlalchemy.select(
            col(ObservedRate.hardware_class),
            col(ObservedRate.digest),
            col(ObservedRate.decode_milli_tps),
            col(ObservedRate.prefill_milli_tps),
        )
        .join(Variant, col(Variant.digest) == col(ObservedRate.digest))
        .join(Device, col(Device.id) == col(ObservedRate.device_id))
        .where(which, col(Device.revoked_at).is_(None))
    )
    return [(of_class, digest, decode, prefill) for of_class, digest, decode, prefill in rows]


def _beside(of_class: ClassRates | None) -> dict[str, int]:
    return {
        "class_decode_milli_tps": of_class.rates.decode_milli_tps if of_class else 0,
        "class_prefill_milli_tps": of_class.rates.prefill_milli_tps if of_class else 0,
        "class_devices": of_class.devices if of_class else 0,
    }
