"""How far a destination has the devices' own logs: a row for each device, one claim for all.

Devices take turns: the one that waits the longest is next. Records of one device are sent in their
order; between devices there is none, as they arrive when devices are online.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sql

from sprat_controller.audit.forwarding.positions import BATCH, Numbered, Position
from sprat_controller.store.session import Database
from sprat_controller.store.tables import (
    AuditForwarding,
    AuditForwardingDevice,
    Device,
    DeviceAuditRecord,
    of,
)

# Of a device in one batch: one with a long log does not hold up the others.
OF_ONE: Final = 64
_DEVICES, _RECORDS, _SENT = of(Device), of(DeviceAuditRecord), of(AuditForwardingDevice)


class DevicePositions:
    """Of one destination in all devices' logs; numbers are those within the batch that was read."""

    def __init__(self, database: Database, destination: str, owner: str) -> None:
        self._database = database
        self._destination = destination
        self._owner = owner
        # Who sends is claimed as for the controller's log; its position stays 0.
        self._claim = Position(database, destination, owner)
        self._found: list[tuple[str, int]] = []

    def begin(self) -> None:
        """Have a row to claim."""
        self._claim.begin()

    def claim(self, now: datetime) -> int | None:
        """Return 0: all of the batch is to be sent; None: another controller sends, or did."""
        at = self._claim.claim(now)
        if at is None:
            return None
        read = self._found
        self.next_records()
        # Another controller moved on between reading and claiming: the next look sees it.
        return at if self._found[: len(read)] == read else None

    def next_records(self) -> Sequence[Numbered]:
        """Return the next records, of the devices that wait the longest."""
        found: list[tuple[str, int]] = []
        records: list[Numbered] = []
        with self._database.reading() as session:
            run = session.connection().execute
            for device_id, size, had in run(self._waiting()).all():
                room = min(OF_ONE, BATCH - len(found))
                if room <= 0:
                    break
                rows: list[Any] = list(run(self._of(device_id, had, room)))
                # Of a log of before seals positions may be missing: there is nothing to send.
                for seq, body in rows or [(size, b"")]:
                    found.append((device_id, seq))
                    records.append(Numbered(len(found), bytes(body)))
        self._found = found
        return records

    def move(self, seq: int, now: datetime) -> bool:
        """Write down that the destination has the batch up to this number."""
        sent: dict[str, int] = dict(self._found[:seq])
        table = of(AuditForwarding)
        mine = sql.and_(table.c.destination == self._destination, table.c.owner == self._owner)
        with self._database.transaction() as session:
            run = session.connection().execute
            if run(sql.update(table).where(mine).values(sent_at=now)).rowcount != 1:
                return False
            for device_id, number in sent.items():
                where = sql.and_(
                    _SENT.c.destination == self._destination, _SENT.c.device_id == device_id
                )
                moved = sql.update(_SENT).where(where).values(seq=number, sent_at=now)
                if run(moved).rowcount == 0:
                    row = {"destination": self._destination, "device_id": device_id}
                    run(sql.insert(_SENT).values(**row, seq=number, sent_at=now))
        return True

    def release(self) -> None:
        """Leave it to whoever is next."""
        self._claim.release()

    def _waiting(self) -> sql.Select[Any, Any, Any]:
        had = sql.func.coalesce(_SENT.c.seq, 0)
        joined = _DEVICES.outerjoin(
            _SENT,
            sql.and_(_SENT.c.device_id == _DEVICES.c.id, _SENT.c.destination == self._destination),
        )
        return (
            sql.select(_DEVICES.c.id, _DEVICES.c.audit_seq, had)
            .select_from(joined)
            .where(_DEVICES.c.audit_seq > had)
            .order_by(_SENT.c.sent_at.is_not(None), _SENT.c.sent_at, _DEVICES.c.id)
            .limit(BATCH)
        )

    @staticmethod
    def _of(device_id: str, after: int, limit: int) -> sql.Select[Any, Any]:
        rows = _RECORDS.c
        return (
            sql.select(rows.seq, rows.body)
            .where(rows.device_id == device_id, rows.seq > after)
            .order_by(rows.seq)
            .limit(limit)
        )
