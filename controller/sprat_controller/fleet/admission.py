"""May this certificate speak for its device? Asked at each connection, by the rows, not by TLS.

Between a renewal and the first use of the new certificate the one before it is good too, since the
answer may have been lost. After that, an older one is in the hands of a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final

import sqlalchemy as sql
from sprat_proto.audit_events import Tag
from sqlalchemy import bindparam
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from sprat_controller.audit import log
from sprat_controller.store.tables import Device, DeviceCertificate


class Verdict(Enum):
    """What is done with a connection."""

    ADMITTED = auto()
    ADMITTED_FIRST = auto()  # the first use of the newest certificate
    UNKNOWN = auto()  # not enrolled, or removed
    SUPERSEDED = auto()  # an older certificate of this device, or one that nobody remembers


@dataclass(frozen=True)
class Certified:
    """What counts of a device's certificates."""

    newest_key_sha256: str
    newest_used_at: datetime | None
    previous_key_sha256: str | None


_NEWEST: Final = aliased(DeviceCertificate)
_PREVIOUS: Final = aliased(DeviceCertificate)
_CERTIFIED: Final = (
    sql.select(col(Device.key_sha256), col(Device.newest_used_at), col(_PREVIOUS.key_sha256))
    .outerjoin(
        _NEWEST,
        (col(_NEWEST.device_id) == col(Device.id)) & (col(_NEWEST.serial) == col(Device.serial)),
    )
    .outerjoin(
        _PREVIOUS,
        (col(_PREVIOUS.device_id) == col(Device.id))
        & (col(_PREVIOUS.serial) == col(_NEWEST.follows)),
    )
    .where(col(Device.id) == bindparam("device"), col(Device.revoked_at).is_(None))
)


def judge(known: Certified | None, key_sha256: str | None) -> Verdict:
    """Return what is done with a connection. Pure.

    Args:
        known: None if the device is not enrolled or was removed.
        key_sha256: Of the certified key; None where a broker authenticated the device, which knows
            nothing of renewals (its list of revoked certificates does, see `link.broker`).
    """
    if known is None:
        return Verdict.UNKNOWN
    if key_sha256 is None:
        return Verdict.ADMITTED
    if key_sha256 == known.newest_key_sha256:
        return Verdict.ADMITTED if known.newest_used_at is not None else Verdict.ADMITTED_FIRST
    if key_sha256 == known.previous_key_sha256 and known.newest_used_at is None:
        return Verdict.ADMITTED
    return Verdict.SUPERSEDED


def look_up(session: Session, device_id: str) -> Certified | None:
    """Return what counts of the device's certificates; None if it may not speak at all."""
    row = session.connection().execute(_CERTIFIED, {"device": device_id}).first()
    return None if row is None else Certified(*row)


def note_first_use(session: Session, device_id: str, key_sha256: str, now: datetime) -> None:
    """Write down that the newest certificate was used; from now on no older one is good.

    Again changes nothing.
    """
    statement = (
        sql.update(Device)
        .where(
            col(Device.id) == device_id,
            col(Device.key_sha256) == key_sha256,
            col(Device.newest_used_at).is_(None),
        )
        .values(newest_used_at=now)
    )
    if session.connection().execute(statement).rowcount == 1:
        log.append(
            session,
            Tag.DEVICE_CERTIFICATE_USED,
            at=now,
            actor=f"device:{device_id}",
            subject=f"device/{device_id}",
            before="unused",
            after="used",
            detail={"key_sha256": key_sha256},
        )
