"""A device's audit log as both sides see it: its name, and the checkpoints that it signs. Pure."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sprat_proto import notes
from sprat_proto.notes import Checkpoint, Note, NoteError, VerifierKey


def origin(device_id: str) -> str:
    """Return the name of the log, and of the key that signs its checkpoints."""
    return f"sprat/devices/{device_id}/audit"


def sign(key: Ed25519PrivateKey, device_id: str, size: int, root: bytes) -> str:
    """Return the signed checkpoint of a log of `size` records."""
    name = origin(device_id)
    text = str(Checkpoint(name, size, root))
    return str(Note(text).signed(notes.sign(key, name, text)))


def verify(note: str, device_id: str, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint that the device signed.

    Raises:
        NoteError: It is none, of another log, or not signed by this key.
    """
    read = notes.read_note(note)
    notes.verify(read, [key])
    checkpoint = notes.read_checkpoint(read.text)
    if checkpoint.origin != origin(device_id):
        raise NoteError(
            f"expected a checkpoint of {origin(device_id)}, found one of {checkpoint.origin[:80]}"
        )
    return checkpoint


def verifier(device_id: str, public_pem: str) -> VerifierKey:
    """Return what verifies a device's checkpoints.

    Args:
        device_id: Whose log it is.
        public_pem: The key as it was told at enrolment.

    Raises:
        NoteError: It is no Ed25519 key.
    """
    try:
        key: object = load_pem_public_key(public_pem.encode())
    except ValueError as error:
        raise NoteError(f"expected the audit key of {device_id} in PEM form: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise NoteError(f"expected an Ed25519 key of {device_id}, found {type(key).__name__}")
    return VerifierKey(origin(device_id), key.public_bytes_raw())
