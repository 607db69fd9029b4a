"""What seals this device's log: whose it is, the key of its checkpoints, where its seals begin."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sprat_agent.identity import audit_keys
from sprat_agent.identity.identity import Identity


@dataclass(frozen=True)
class Sealing:
    """What a journal seals with.

    Attributes:
        device_id: Whose log it is.
        key: Signs its checkpoints.
        seed: What the first seal is made from; None: it was erased, the journal has begun.
    """

    device_id: str
    key: Ed25519PrivateKey
    seed: bytes | None


def of(identity: Identity) -> Sealing:
    """Return what enrolment left.

    Raises:
        IdentityError: It is not there, or not whole.
    """
    folder = identity.folder
    return Sealing(identity.device_id, audit_keys.open_key(folder), audit_keys.read_seed(folder))
