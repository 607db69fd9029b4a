"""A controller's desk for devices: claims, enrolment, renewal, and a clock that a test turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from sprat_controller.audit.denials import Denials
from sprat_controller.audit.verify import verify_controller
from sprat_controller.fleet import enrolment, renewal
from sprat_controller.fleet.certificates import Given
from sprat_controller.ids import new_secret
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Device
from sqlmodel import select

from simulators.device_keys import DeviceKeys, PlainIssuer, csr_of, new_key

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class Desk:
    """Makes claims, redeems them and renews certificates."""

    database: Database
    now: datetime = NOW
    signer: PlainIssuer = field(init=False)
    new_id: Callable[[], str] = field(init=False)

    def __post_init__(self) -> None:
        numbers = count(1)
        self.new_id = lambda: f"id-{next(numbers)}"
        self.signer = PlainIssuer(lambda: self.now)

    def later(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    def token(self, device_id: str | None = "gw-1", **wanted: Any) -> str:
        named: dict[str, Any] = {} if "prefix" in wanted else {"device_id": device_id}
        facts: dict[str, Any] = {"labels": {"site": "lyon"}, **named, **wanted}
        asked = enrolment.Wanted(**facts)
        with self.database.transaction() as session:
            _, made = enrolment.create_token(
                session,
                asked,
                actor="token:op",
                now=self.now,
                ca_fingerprint=self.signer.fingerprint,
                new_id=self.new_id,
                new_secret=new_secret,
            )
        return str(made)

    def enrol(self, token: str, keys: DeviceKeys, csr: str | None = None) -> Given:
        return self.send(keys.enrolment(token, csr))

    def send(self, request: enrolment.Request) -> Given:
        denials = Denials(self.database)
        return enrolment.enrol(self.database, self.signer, denials, request, self.now)

    def renew(
        self, keys: DeviceKeys, serial: str, csr: str | None = None, device_id: str = "gw-1"
    ) -> Given:
        return self.send_renewal(keys.renewal(device_id, serial, csr or csr_of(new_key())))

    def send_renewal(self, request: renewal.Request) -> Given:
        denials = Denials(self.database)
        return renewal.renew(self.database, self.signer, denials, request, self.now)

    def audited(self, tag: str) -> list[AuditRecord]:
        with self.database.reading() as session:
            records = session.exec(select(AuditRecord)).all()
            assert verify_controller(session).ok
        return [record for record in records if record.tag == tag]

    def devices(self) -> list[str]:
        with self.database.reading() as session:
            return sorted(session.exec(select(Device.id)))

    def device(self, device_id: str = "gw-1") -> Device:
        with self.database.reading() as session:
            device = session.get(Device, device_id)
        assert device is not None
        return device
