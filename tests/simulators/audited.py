"""A controller's audit log at work: written, signed, sent on and erased, until somebody kills it.

    python -m simulators.audited FOLDER PORT

Each turn is forty days later, and has the steps of `STEPS`: each prints its name when it is done.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import sqlalchemy as sql
from sprat_controller.audit import log, retention
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.expiries import FLOOR_DAYS, Policy
from sprat_controller.audit.expiring import Expiring
from sprat_controller.audit.forwarding import senders
from sprat_controller.audit.forwarding.destination import parse
from sprat_controller.audit.forwarding.forwarder import Forwarder
from sprat_controller.audit.forwarding.positions import Position
from sprat_controller.audit.views.record import Origin
from sprat_controller.config import DataFolder
from sprat_controller.signer.folder import SignerFolder
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import AuditRecord
from sprat_proto.audit_events import Tag
from sqlmodel import col

BEGIN = datetime(2026, 11, 27, tzinfo=UTC)
TURN = timedelta(days=40)
OF_A_TURN = 20
STEPS = ("write", "sign", "send", "erase")


class AtWork:
    """What writes, signs, erases and sends on."""

    def __init__(self, folder: DataFolder, port: int) -> None:
        self.database = Database(sqlite_url(folder.database))
        with self.database.reading() as session:
            last = session.connection().execute(sql.select(sql.func.max(col(AuditRecord.at))))
            self.now = last.scalar() or BEGIN
        signer = SignerFolder(folder.signer).open(lambda: self.now)
        self.checkpoints = Checkpoints(self.database, signer)
        self.expiring = Expiring(self.database, self.checkpoints)
        to = parse(f"syslog+tcp://127.0.0.1:{port}")
        sender = senders.make(to, Origin("ctl.example", "0.1.0"))
        self._position = Position(self.database, to.name, "controller")
        self._position.begin()
        self.forwarder = Forwarder(
            to.name,
            sender,
            self.database,
            "controller",
            lambda: self.now,
            position=self._position,
        )

    def write(self) -> None:
        """Write records, forty days later."""
        self.now += TURN
        with self.database.transaction() as session:
            if not retention.policies(session):
                policy = Policy("", FLOOR_DAYS)
                retention.set_policy(session, policy, "", actor="user:ann", now=self.now)
            for number in range(OF_A_TURN):
                subject = f"token/{number}"
                log.append(
                    session, Tag.TOKEN_CREATED, at=self.now, actor="user:ann", subject=subject
                )

    def sign(self) -> None:
        """Have a checkpoint made."""
        self.checkpoints.make(self.now)

    def send(self) -> None:
        """Send all that is there."""
        while self.forwarder.step():
            pass

    def erase(self) -> None:
        """Erase all that has expired."""
        while self.expiring.step(self.now):
            pass


def main() -> None:
    """Work until killed."""
    work = AtWork(DataFolder(Path(sys.argv[1])), int(sys.argv[2]))
    for step in cycle(STEPS):
        getattr(work, step)()
        print(step, flush=True)  # noqa: T201 - to who kills it


if __name__ == "__main__":
    main()
