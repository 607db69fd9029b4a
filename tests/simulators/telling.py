"""A device whose own log a controller has, both with signed checkpoints."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from sprat_controller.audit import device_exporting, log, retention
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.device_export import KEY_FIELD, fingerprint, verify
from sprat_controller.audit.expiries import Policy
from sprat_controller.audit.expiring import Expiring
from sprat_controller.audit.export import Finding
from sprat_controller.store.tables import Device
from sprat_proto import device_log
from sprat_proto.audit_events import Tag
from sprat_proto.v1 import link_pb2

from simulators.controlled import World
from simulators.sealed import batch_of, sealed
from simulators.signing_desk import Desk

COUNT = 70


class Told:
    """A device that told its log, and the controller's own, of which there are checkpoints."""

    def __init__(self, world: World, desk: Desk) -> None:
        self.world = world
        self.checkpoints = Checkpoints(world.database, desk.core)
        self.desk = desk
        world.join("a")
        with world.database.reading() as session:
            pem = session.get_one(Device, "a").audit_key
        self.enrol({KEY_FIELD: fingerprint(device_log.verifier("a", pem))})

    def enrol(self, detail: dict[str, object]) -> None:
        """Put on record that it enrolled."""
        with self.world.database.transaction() as session:
            log.append(
                session,
                Tag.DEVICE_ENROLLED,
                at=self.world.now,
                actor="device:a",
                subject="device/a",
                detail=detail,
            )

    def tell(self, *more: Mapping[str, object]) -> None:
        """Send its records, and then others of which only the position is not given."""
        bodies = [json.dumps({"seq": seq, "tag": "agent:test:made"}) for seq in range(1, COUNT + 1)]
        bodies[4] = '{"seq":5,\n"tag":"agent:test:made"}'
        bodies += [json.dumps({"seq": seq, **one}) for seq, one in enumerate(more, COUNT + 1)]
        records = sealed([one.encode() for one in bodies])
        batch = batch_of(records, *range(1, len(bodies) + 1), device_id="a")
        self.world.conversation.receive("a", "grpc", link_pb2.DeviceMessage(audit=batch))

    def export(self) -> list[bytes]:
        """Return the lines of an export of its log."""
        signed = self.checkpoints.make(self.world.now)
        assert signed is not None
        with self.world.database.reading() as session:
            exported = device_exporting.prepare(session, session.get_one(Device, "a"), signed)
        whole = b"".join(device_exporting.whole(self.world.database, signed, exported))
        return whole.splitlines(keepends=True)

    def verified(self, lines: list[bytes] | None = None) -> Finding:
        """Return what a check of an export finds; None: of one made now."""
        return verify(self.export() if lines is None else lines, [self.checkpoints.key()])

    def expire(self) -> None:
        """Let half a year pass, and erase what a policy says."""
        with self.world.database.transaction() as session:
            policy = Policy("", 183)
            retention.set_policy(session, policy, "", actor="user:ann", now=self.world.now)
        self.world.now += timedelta(days=184)
        self.desk.now = self.world.now
        job = Expiring(self.world.database, self.checkpoints)
        while job.step(self.world.now):
            pass


@contextmanager
def telling(world: World, folder: Path) -> Generator[Told]:
    """Make the device `a` in a world, and a signer in a folder."""
    (folder / "signer").mkdir()
    desk = Desk(folder / "signer")
    yield Told(world, desk)
    desk.core.close()
