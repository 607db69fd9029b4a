"""What devices of tests seal their audit logs with, and how a log looks sealed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sprat_agent.audit.journal import DEFAULT_ROOM, Journal, Room
from sprat_agent.audit.sealing import Sealing
from sprat_agent.clock import Clock
from sprat_agent.identity import audit_keys
from sprat_agent.identity.identity import AUDIT_KEY_FILE, AUDIT_SEED_FILE
from sprat_agent.state import State
from sprat_controller.audit import device_logs
from sprat_controller.audit.device_logs import Sealed
from sprat_proto import audit_seal, device_log, merkle
from sprat_proto.merkle import Frontier
from sprat_proto.v1.link_pb2 import AuditBatch, AuditRecord

KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY_PEM: Final = audit_keys.public_pem(KEY)
SEED: Final = bytes(range(32))
NOW: Final = datetime.fromisoformat("2026-11-24T00:00:00+00:00")


def journal_of(
    state: State,
    clock: Clock = lambda: NOW,
    device_id: str = "gw-1",
    room: Room = DEFAULT_ROOM,
) -> Journal:
    """Return a device's journal."""
    return Journal(state, clock, Sealing(device_id, KEY, SEED), room=room)


def keys_in(folder: Path) -> None:
    """Put both where enrolment does."""
    folder.mkdir(parents=True, exist_ok=True)
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / AUDIT_KEY_FILE).write_bytes(pem)
    (folder / AUDIT_SEED_FILE).write_bytes(SEED)


def sealed(bodies: Sequence[bytes], seed: bytes = SEED) -> list[AuditRecord]:
    """Return a log of these bodies as it is sent."""
    key = audit_seal.first_key(seed)
    return [
        AuditRecord(seq=seq, body=body, seal=key.at(seq).seal(merkle.leaf_hash(body)))
        for seq, body in enumerate(bodies, start=1)
    ]


def root_of(records: Sequence[AuditRecord]) -> bytes:
    """Return the root of a log of these records."""
    tree = Frontier()
    for record in records:
        tree.append(merkle.leaf_hash(record.body))
    return tree.root()


def batch_of(
    log: Sequence[AuditRecord], *chosen: int, device_id: str, key: Ed25519PrivateKey = KEY
) -> AuditBatch:
    """Return a batch of the records at these positions of a log, with the checkpoint there."""
    records = [log[seq - 1] for seq in chosen]
    size = chosen[-1] if chosen else 0
    checkpoint = device_log.sign(key, device_id, size, root_of(log[:size])) if chosen else ""
    return AuditBatch(records=records, checkpoint=checkpoint)


def assert_whole(records: Sequence[Sealed], seed: bytes = SEED) -> None:
    """Hold that records are a whole log, sealed from its first on."""
    followed = device_logs.follow(device_logs.beginning(seed), records)
    assert followed.broken is None
    assert followed.head.size == len(records)
