"""A device's checkpoints: who signed them, and of which log they are."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sprat_proto import device_log
from sprat_proto.notes import NoteError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ROOT = bytes(reversed(range(32)))


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_what_a_device_signed_is_read_back() -> None:
    note = device_log.sign(KEY, "gw-1", 7, ROOT)
    assert note.startswith("sprat/devices/gw-1/audit\n7\n")
    checkpoint = device_log.verify(note, "gw-1", device_log.verifier("gw-1", pem(KEY)))
    assert (checkpoint.size, checkpoint.root) == (7, ROOT)


def test_another_key_another_device_and_another_text_are_refused() -> None:
    note = device_log.sign(KEY, "gw-1", 7, ROOT)
    verifier = device_log.verifier("gw-1", pem(KEY))
    stranger = device_log.verifier("gw-1", pem(Ed25519PrivateKey.generate()))
    for wrong, device, key in (
        (note, "gw-1", stranger),
        (note, "gw-2", verifier),
        (note, "gw-2", device_log.verifier("gw-2", pem(KEY))),
        (note.replace("\n7\n", "\n8\n"), "gw-1", verifier),
        ("", "gw-1", verifier),
    ):
        with pytest.raises(NoteError):
            device_log.verify(wrong, device, key)


@pytest.mark.parametrize("key", ["", "x", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_a_key_that_is_none_is_said(key: str) -> None:
    with pytest.raises(NoteError, match="gw-1"):
        device_log.verifier("gw-1", key)
