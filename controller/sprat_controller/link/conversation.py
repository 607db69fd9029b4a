"""The conversation with devices, against the rows: the same over every carrier.

Each message is one transaction: what it says is kept, then it is answered. A message that is lost
is sent again by whoever misses the answer; one that comes twice changes nothing the second time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.capability import CAPABILITY
from sprat_proto.v1 import link_pb2
from sqlmodel import col, func, update

from sprat_controller.access.blob_credentials import BlobCredentials
from sprat_controller.audit.denials import Denials
from sprat_controller.clock import Clock, to_ms
from sprat_controller.fleet import admission
from sprat_controller.fleet.admission import Verdict
from sprat_controller.link import presence, reports, trail
from sprat_controller.link.acknowledge import Acknowledger
from sprat_controller.link.known import Hearing, Reply, look_up
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import BRIEF_PAUSE_MS, Database
from sprat_controller.store.tables import Device

# One controller of two cores accepts this many new connections a second (measured November 2026).
HANDSHAKES_PER_S: Final = 400
SPREAD: Final = 1.2
_MISSED_HEARTBEATS: Final = 3
_COUNT_AGE: Final = timedelta(minutes=1)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Welcoming:
    """What a Welcome tells every device."""

    heartbeat_s: int
    blob_base_urls: Sequence[str]
    image_base_urls: Sequence[str]


class Conversation:
    """Implements `hub.Receiver`. All methods block; devices may be heard in many threads."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        signer: Signer,
        acknowledger: Acknowledger,
        credentials: BlobCredentials,
        denials: Denials,
        welcoming: Welcoming,
        on_progress: Callable[[], None],
    ) -> None:
        """Hear devices.

        Args:
            database: The rows.
            clock: Read once a message.
            signer: Signs plans.
            acknowledger: Signs what lets devices delete audit.
            credentials: Mints what lets devices fetch blobs.
            denials: Where refused messages are written down.
            welcoming: What each Welcome says.
            on_progress: Called after an execution ended, when that is committed.
        """
        self._database = database
        self._clock = clock
        self._signer = signer
        self._acknowledger = acknowledger
        self._credentials = credentials
        self._denials = denials
        self._welcoming = welcoming
        self._on_progress = on_progress
        self._counted: tuple[datetime, int] | None = None

    def admit(self, device_id: str, key_sha256: str | None) -> bool:
        """Tell whether the device is enrolled, not removed, and shows its newest certificate.

        Args:
            device_id: The authenticated name.
            key_sha256: Hex hash of the public key it used; None where a broker authenticated it.
        """
        with self._database.reading() as session:
            known = admission.look_up(session, device_id)
        verdict = admission.judge(known, key_sha256)
        if verdict is Verdict.ADMITTED_FIRST and key_sha256 is not None:
            with self._database.transaction(pause_ms=BRIEF_PAUSE_MS) as session:
                admission.note_first_use(session, device_id, key_sha256, self._clock())
        if verdict is Verdict.SUPERSEDED:
            self._alarm(device_id, key_sha256)
        return verdict in (Verdict.ADMITTED, Verdict.ADMITTED_FIRST)

    def _alarm(self, device_id: str, key_sha256: str | None) -> None:
        _log.warning("device %s shows a certificate that is not its newest: a copy?", device_id)
        self._denials.record(
            Tag.DEVICE_COPY_SUSPECTED,
            at=self._clock(),
            actor=f"device:{device_id}",
            subject=f"device/{device_id}",
            detail={"code": "certificate_superseded", "key_sha256": key_sha256 or ""},
        )

    def connected(self, device_id: str, carrier: str) -> None:
        """Note that the device is there."""
        here = update(Device).where(col(Device.id) == device_id, col(Device.revoked_at).is_(None))
        values = {"online": True, "carrier": carrier, "last_seen_at": self._clock()}
        self._write(here.values(**values), alone=False)

    def disconnected(self, device_id: str, carrier: str) -> None:
        """Note that the device is gone, unless it is there on another carrier by now."""
        gone = update(Device).where(col(Device.id) == device_id, col(Device.carrier) == carrier)
        self._write(gone.values(online=False), alone=False)

    def forget_presence(self) -> None:
        """Take it that nobody is connected that was not heard of lately: for a controller's start.

        If it is the only one, nobody is connected at all.
        """
        there = col(Device.online).is_(True)
        if self._database.is_shared:
            missed = timedelta(seconds=_MISSED_HEARTBEATS * self._welcoming.heartbeat_s)
            there &= col(Device.last_seen_at) < self._clock() - missed
        self._write(update(Device).where(there).values(online=False))

    def receive(
        self, device_id: str, carrier: str, message: link_pb2.DeviceMessage
    ) -> list[link_pb2.ControllerMessage]:
        """Take in a message and return the answers; none to a device that is not enrolled."""
        now = self._clock()
        with self._database.transaction(pause_ms=BRIEF_PAUSE_MS) as session:
            device = look_up(session, device_id)
            if device is None:
                return []
            hearing = Hearing(session, self._signer, self._acknowledger, device, carrier, now)
            reply = _hear(hearing, message)
        self._after(device_id, reply, now)
        if message.HasField("hello"):
            return [self._welcome(device_id, now), *reply.messages]
        return reply.messages

    def _after(self, device_id: str, reply: Reply, now: datetime) -> None:
        """Do what follows the commit."""
        for sentence in reply.refused:
            self._denials.record(
                Tag.DEVICE_MESSAGE_REFUSED,
                at=now,
                actor=f"device:{device_id}",
                subject=f"device/{device_id}",
                detail={"code": "message_refused", "found": sentence},
            )
        if reply.is_progress:
            self._on_progress()

    def _welcome(self, device_id: str, now: datetime) -> link_pb2.ControllerMessage:
        credential, expires = self._credentials.mint(device_id, now)
        return link_pb2.ControllerMessage(
            welcome=link_pb2.Welcome(
                capability=CAPABILITY,
                heartbeat_s=self._welcoming.heartbeat_s,
                reconnect_spread_s=reconnect_spread_s(self._devices(now)),
                blob_base_urls=self._welcoming.blob_base_urls,
                image_base_urls=self._welcoming.image_base_urls,
                blob_credential=credential,
                blob_credential_expires_ms=to_ms(expires),
                controller_time_ms=to_ms(now),
            )
        )

    def _devices(self, now: datetime) -> int:
        """Return how many devices there are, counted at most once a minute."""
        counted = self._counted
        if counted is None or not timedelta() <= now - counted[0] < _COUNT_AGE:
            statement = sqlalchemy.select(func.count()).select_from(Device)
            with self._database.reading() as session:
                found = session.connection().execute(
                    statement.where(col(Device.revoked_at).is_(None))
                )
                counted = self._counted = (now, found.scalar_one())
        return counted[1]

    def _write(self, statement: sqlalchemy.Update, *, alone: bool = True) -> None:
        with self._database.transaction(alone=alone, pause_ms=BRIEF_PAUSE_MS) as session:
            session.exec(statement.execution_options(synchronize_session=False))


def reconnect_spread_s(devices: int) -> int:
    """Return over how many seconds the devices should return after the controller was away."""
    return max(1, math.ceil(devices / HANDSHAKES_PER_S * SPREAD))


def _hear(hearing: Hearing, message: link_pb2.DeviceMessage) -> Reply:
    match message.WhichOneof("body"):
        case "hello":
            return presence.greet(hearing, message)
        case "heartbeat":
            return presence.beat(hearing, message.heartbeat)
        case "report":
            return reports.take_in(hearing, message.report)
        case "audit":
            return trail.take_in(hearing, message.audit)
        case _:
            # Of a newer agent, perhaps: a side that does not understand goes on.
            return Reply(refused=["a message without a body that is known here"])
