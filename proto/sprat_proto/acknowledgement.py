"""The controller's word that it keeps a device's audit up to a position, signed. Pure.

What is acknowledged is deleted on the device, and the carrier can compute every root: it brought
the records. So only a signature frees them, under a certificate of the controller that a device's
own CA root certified. A broker has a server's certificate at most, a device its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import (
    ClientVerifier,
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from sprat_proto.v1.link_pb2 import AuditAck

# The controller's own name in its certificate, also at a broker; no device may have it.
CONTROLLER_NAME: Final = "controller"
MAX_CERTIFICATES: Final = 3
# First line of what is signed: no other signature of this key can pass for an acknowledgement.
_PURPOSE: Final = "sprat/v2 audit acknowledgement"
_ALGORITHM: Final = ec.ECDSA(SHA256())


class AckRefusedError(Exception):
    """The acknowledgement is not the controller's word; the message says why."""


def sign(key_pem: bytes, chain_pem: bytes, device_id: str, up_to: int, root: bytes) -> AuditAck:
    """Return the acknowledgement that a device believes.

    Args:
        key_pem: The controller's private key, P-256.
        chain_pem: Its certificate and those up to (not including) the root, leaf first.
        device_id: Whose audit it is.
        up_to: Position of the last record that is kept.
        root: Merkle root of the log up to there, 32 bytes.

    Raises:
        ValueError: No key, or no certificates.
        TypeError: Another kind of key.
    """
    key = load_pem_private_key(key_pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"expected an elliptic curve key, found {type(key).__name__}")
    chain = x509.load_pem_x509_certificates(chain_pem)
    return AuditAck(
        up_to=up_to,
        root=root,
        signature=key.sign(signed_bytes(device_id, up_to, root), _ALGORITHM),
        certificates=[one.public_bytes(Encoding.DER) for one in chain],
    )


def verify(ack: AuditAck, device_id: str, root_pem: bytes, now: datetime) -> None:
    """Return if the controller of this root said this to this device.

    Args:
        ack: As it came.
        device_id: Who asks.
        root_pem: The CA root (or two, while one follows another) that the device pinned.
        now: Timezone-aware; certificates must be in date.

    Raises:
        AckRefusedError: It did not.
    """
    leaf = _certified(ack.certificates, root_pem, now)
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [one.value for one in names] != [CONTROLLER_NAME]:
        found = leaf.subject.rfc4514_string()[:80]
        raise AckRefusedError(f"expected a certificate of {CONTROLLER_NAME!r}, found {found!r}")
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise AckRefusedError(f"expected an elliptic curve key, found {type(key).__name__}")
    try:
        key.verify(ack.signature, signed_bytes(device_id, ack.up_to, ack.root), _ALGORITHM)
    except InvalidSignature as error:
        raise AckRefusedError(
            f"expected the controller's signature over position {ack.up_to} of {device_id}, found"
            " one that does not cover it"
        ) from error


def signed_bytes(device_id: str, up_to: int, root: bytes) -> bytes:
    """Return what the signature covers: purpose, device, position and root, a line each."""
    return f"{_PURPOSE}\n{device_id}\n{up_to}\n{root.hex()}\n".encode()


def _certified(chain: Sequence[bytes], root_pem: bytes, now: datetime) -> x509.Certificate:
    if not 1 <= len(chain) <= MAX_CERTIFICATES:
        raise AckRefusedError(
            f"expected 1 to {MAX_CERTIFICATES} certificates with a signature, found {len(chain)}"
        )
    try:
        leaf, *others = [x509.load_der_x509_certificate(one) for one in chain]
        _policy(root_pem, now).verify(leaf, others)
    except (ValueError, VerificationError) as error:
        raise AckRefusedError(
            f"expected a controller certified by this device's CA root: {error}"
        ) from error
    return leaf


def _policy(root_pem: bytes, now: datetime) -> ClientVerifier:
    # Our certificates name their holder in the subject, not in an alternative name.
    leaf = ExtensionPolicy.webpki_defaults_ee().may_be_present(
        x509.SubjectAlternativeName, Criticality.AGNOSTIC, None
    )
    return (
        PolicyBuilder()
        .store(Store(x509.load_pem_x509_certificates(root_pem)))
        .time(now)
        .max_chain_depth(MAX_CERTIFICATES - 1)
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=leaf)
        # Of a client: a server's certificate is refused, whatever name is in it.
        .build_client_verifier()
    )
